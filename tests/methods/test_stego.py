"""STEGO beyond its loss: which terms see which images, and what it needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Batch
from jaxseg.losses.correspondence import cluster_loss
from jaxseg.methods.stego import STEGO

KEY = jax.random.key(3)


def make_batch(count=4, views=2):
    rng = np.random.default_rng(0)
    return Batch(
        index=jnp.arange(count),
        seed=jnp.arange(count, dtype=jnp.uint32),
        tokens=jnp.asarray(rng.normal(size=(count, views, 3, 4, 48)), jnp.float16),
    )


def make(**fields):
    small = {"clusters": 5, "backbone": "vit_test", "dim": 8, "points": 3, "negatives": 2}
    method = STEGO(**small | fields)
    return method, method.init(jax.random.key(0), make_batch())


def test_the_loss_is_the_weighted_sum_of_its_terms():
    method, state = make(w_self=2.0, w_knn=3.0, w_random=5.0)
    loss, (extra, metrics) = method.loss(state, make_batch(), KEY)
    weights = {"L_self": 2.0, "L_knn": 3.0, "L_random": 5.0, "L_cluster": 1.0}
    assert metrics.keys() == weights.keys()
    np.testing.assert_allclose(loss, sum(w * metrics[k] for k, w in weights.items()), rtol=1e-5)
    assert extra == {}


def test_only_its_own_term_sees_the_neighbour():
    method, state = make(dropout=0.0)
    batch = make_batch()
    other = batch.replace(tokens=batch.tokens.at[:, 1].multiply(-1))
    one, two = (method.loss(state, b, KEY)[1][1] for b in (batch, other))
    assert {name for name in one if one[name] != two[name]} == {"L_knn"}


def test_an_image_corresponds_with_itself():
    """Of unlike images and without shifts, the strongest correspondence is each with itself."""
    method, state = make(dropout=0.0, b_self=0.0, b_knn=0.0, b_random=0.0, negatives=3)
    batch = make_batch(count=8)
    _, (_, metrics) = method.loss(state, batch, KEY)
    assert metrics["L_self"] < metrics["L_knn"] - 0.01
    assert metrics["L_self"] < metrics["L_random"] - 0.01


def test_cluster_centres_follow_codes_that_they_do_not_move():
    method, state = make(w_self=0.0, w_knn=0.0, w_random=0.0, dropout=0.0)
    batch = make_batch()

    def loss(params):
        return method.loss(state.replace(params=params), batch, KEY)[0]

    value, gradients = jax.value_and_grad(loss)(state.params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients["head"]))
    assert gradients["cluster"]["centres"].any()
    code = method.predict(state, batch.view(0)).features
    expected = cluster_loss(code, state.params["cluster"]["centres"])
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_batch_without_neighbours_is_refused():
    method, _ = make()
    with pytest.raises(ValueError, match=r"data\.partners"):
        method.init(KEY, make_batch(views=1))
