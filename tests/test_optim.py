"""Optimisers and schedules against their definitions."""

import jax
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


def test_steps_fall_to_a_tenth_and_the_warm_up_begins_at_its_share():
    rates = [float(make_schedule(1.0, 100, "steps", 10, 0.1)(step)) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.linspace(0.1, 1, 11)[:10], rtol=1e-5)
    expected = np.repeat([1, 0.1, 0.01, 0.001], [22, 24, 19, 25])
    np.testing.assert_allclose(rates[10:], expected, rtol=1e-5)


def test_the_sgd_of_hsg_by_hand():
    transform = make_optimiser(
        4, "sgd", 0.5, "poly", rate_in_momentum=True, bias_rate=2.0, weight_decay=0.1,
        decayed="weights",
    )  # fmt: skip
    params = {"norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)}}
    state, buffers = transform.init(params), {"scale": 0.0, "bias": 0.0}
    values = {"scale": 1.0, "bias": 1.0}
    for step in range(3):
        grads = {"norm": {name: jnp.full(2, 0.3) for name in values}}
        updates, state = transform.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        rate = 0.5 * (1 - step / 4) ** 0.9
        for name, factor, decay in (("scale", 1, 0.1), ("bias", 2, 0.0)):
            gradient = 0.3 + decay * values[name]
            buffers[name] = 0.9 * buffers[name] + factor * rate * gradient
            values[name] -= buffers[name]
            np.testing.assert_allclose(params["norm"][name], values[name], rtol=1e-5)


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
        ({"decayed": "biases"}, "optim.decayed is 'biases'"),
        ({"rate_in_momentum": True}, "optim.rate_in_momentum is for 'sgd'"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(UserError, match=message):
        make_optimiser(10, **fields)
