"""BatchNorm: that the written-down gradient is the derived one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.models.norm import batch_norm


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2**-7)])
def test_training_equals_flax_in_values_gradients_and_statistics(dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 4)
    # Far from centred: E[x^2] - E[x]^2 loses a digit, in which the two may differ.
    x = (3 + jax.random.normal(keys[0], (4, 5, 6, 8))).astype(dtype)
    weight = jax.random.normal(keys[1], x.shape)
    scale, bias = (jax.random.normal(key, (8,)) for key in keys[2:])
    params = {"scale": scale, "bias": bias}
    flax = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, dtype=dtype)
    rest = flax.init(keys[0], x)["batch_stats"]

    def run(module):
        def loss(params, x):
            variables = {"params": params, "batch_stats": rest}
            y, moved = module.apply(variables, x, mutable=["batch_stats"])
            assert y.dtype == dtype
            return (y.astype(jnp.float32) * weight).sum(), moved

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    found, expected = run(batch_norm(dtype, train=True)), run(flax)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())


def test_variables_are_those_of_evaluation():
    x = jnp.ones((2, 3, 4))
    trained, tested = (
        batch_norm(jnp.float32, train, "norm").init(jax.random.key(0), x) for train in (True, False)
    )
    assert jax.tree.map(jnp.shape, trained) == jax.tree.map(jnp.shape, tested)
    np.testing.assert_array_equal(trained["batch_stats"]["mean"], 0)  # making it moves nothing
