"""The pooling of ResNets: that it is Flax's, gradient included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.models.pooling import max_pool


@pytest.mark.parametrize("size", [(7, 10), (8, 8), (1, 1), (1, 2), (2, 5)])
def test_values_and_gradient_are_those_of_flax(size):
    keys = jax.random.split(jax.random.key(0), 2)
    # Rounded, so that windows have equal values: the first of them gets the gradient.
    x = jnp.round(2 * jax.random.normal(keys[0], (2, *size, 3)))
    expected, reference = jax.vjp(
        lambda x: nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1))), x
    )
    found, pull = jax.vjp(max_pool, x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(max_pool(x), expected)
    upper = jax.random.normal(keys[1], found.shape)
    np.testing.assert_allclose(pull(upper)[0], reference(upper)[0], atol=1e-6)
