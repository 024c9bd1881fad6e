"""Optimisers and schedules against their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.optim import make_optimiser, make_schedule


def test_schedules():
    constant = make_schedule(0.5, 10)
    assert constant(0) == constant(9) == 0.5
    cosine = make_schedule(1.0, 12, "cosine", warmup_steps=2)
    assert cosine(0) == 0
    np.testing.assert_allclose(cosine(1), 0.5)
    np.testing.assert_allclose(cosine(7), 0.5, atol=1e-6)
    np.testing.assert_allclose(cosine(12), 0, atol=1e-6)
    np.testing.assert_allclose(make_schedule(1.0, 10, "poly")(5), 0.5**0.9, rtol=1e-6)


def test_clipping_bounds_the_gradient():
    transform = make_optimiser(1, "sgd", 1.0, momentum=0.0, clip=1.0)
    params = jnp.zeros(2)
    updates, _ = transform.update(jnp.asarray([3.0, 4.0]), transform.init(params), params)
    np.testing.assert_allclose(updates, [-0.6, -0.8], rtol=1e-6)


def test_decay_acts_on_matrices_alone():
    transform = make_optimiser(1, "sgd", 1.0, momentum=0.0, weight_decay=0.1)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    grads = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = transform.update(grads, transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1)
    np.testing.assert_allclose(updates["bias"], 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adma"}, "optim.name is 'adma'; it is one of adam, adamw, sgd"),
        ({"schedule": "linear"}, "optim.schedule is 'linear'"),
        ({"learning_rate": -1.0}, "optim.learning_rate is -1.0; it must be at least 0"),
        ({"accumulate": 0}, "optim.accumulate is 0"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(UserError, match=message):
        make_optimiser(10, **fields)
