"""The product of dense layers beside the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.models.product import dot_general


@pytest.mark.parametrize(("inside", "outside"), [(3, 8), (8, 3)])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_values_and_gradients_are_those_of_a_dense_layer(inside, outside, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, inside))
    layers = [nn.Dense(outside), nn.Dense(outside, dot_general=dot_general)]
    variables = layers[0].init(jax.random.key(1), x)

    def found(layer):
        return jax.value_and_grad(lambda v, x: jnp.sin(layer.apply(v, x)).sum(), (0, 1))(
            variables, x
        )

    for ours, plain in zip(*(jax.tree.leaves(found(layer)) for layer in layers), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
