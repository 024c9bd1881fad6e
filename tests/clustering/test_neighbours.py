"""Nearest neighbours against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseg.clustering.neighbours import nearest, nearest_spread, partners, spread


def brute_force(queries, bank, k, mask=None, own=None):
    """The definition, in float64: scores down, then indices up."""
    scores = queries.astype(np.float64) @ bank.T.astype(np.float64)
    if mask is not None:
        scores[:, ~mask] = -np.inf
    if own is not None:
        rows = np.flatnonzero(own >= 0)
        scores[rows, own[rows]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, order, axis=1)
    order = np.where(found == -np.inf, -1, order)
    missing = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(found, missing, constant_values=-np.inf),
        np.pad(order, missing, constant_values=-1),
    )


def check(queries, bank, k, chunk, mask=None, own=None):
    scores, indices = nearest(queries, bank, k, chunk, mask, own)
    wanted = brute_force(queries, bank, k, mask, own)
    assert scores.shape == indices.shape == (len(queries), k)
    assert scores.dtype == jnp.float32
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices, wanted[1])
    np.testing.assert_allclose(scores, wanted[0], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    # Few sizes, for each is compiled anew: chunks that divide them and chunks that do not.
    sizes=st.sampled_from([(7, 10, 3, 4), (8, 12, 2, 4), (5, 3, 5, 2), (1, 9, 9, 100)]),
)
def test_small_integers_with_ties_masks_and_own(seed, sizes):
    queries, members, k, chunk = sizes
    rng = np.random.default_rng(seed)
    # Products of small integers are exact, so that equal ones tie in any order of summation.
    bank = rng.integers(-1, 2, (members, 3)).astype(np.float32)
    asked = rng.integers(-1, 2, (queries, 3)).astype(np.float32)
    own = rng.integers(-1, members, queries).astype(np.int32)
    check(asked, bank, k, chunk, rng.random(members) < 0.7, own)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_bank_spread_over_devices_is_searched_as_one(devices):
    rng = np.random.default_rng(0)
    bank = rng.integers(-1, 2, (43, 3)).astype(np.float32)  # with ties
    queries = rng.integers(-1, 2, (16, 3)).astype(np.float32)
    shares = spread(bank, set(jax.devices()[:devices]))
    assert {len(shard.data) for shard in shares.addressable_shards} == {-(-43 // devices)}
    found = nearest_spread(jnp.asarray(queries), shares, 20, len(bank))
    for value, wanted in zip(found, nearest(queries, bank, 20), strict=True):
        np.testing.assert_array_equal(value, wanted)
    few = nearest_spread(jnp.asarray(queries), shares, 20, 7)  # fewer than are asked for
    np.testing.assert_array_equal(few[1], nearest(queries, bank[:7], 20)[1])


def test_unit_vectors_in_chunks():
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(300, 16)), rng.normal(size=(37, 16))
    bank, queries = (
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (bank, queries)
    )
    check(queries, bank, 20, 64)
    whole = nearest(queries, bank, 20)
    np.testing.assert_array_equal(nearest(queries, bank, 20, 64)[1], whole[1])


def test_equal_members_come_in_their_order_across_chunks():
    bank = np.tile(np.array([[1.0, 0.0]], np.float32), (11, 1))
    _, indices = nearest(bank[:2], bank, 5, chunk=3)
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3, 4]] * 2)


def test_nobody_left():
    scores, indices = nearest(np.ones((2, 2)), np.ones((3, 2)), 2, mask=np.zeros(3, bool))
    assert (np.asarray(scores) == -np.inf).all()
    assert (np.asarray(indices) == -1).all()


def test_no_matrix_of_all_pairs():
    shape = jax.ShapeDtypeStruct((5000, 8), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda q, b: nearest(q, b, 3, chunk=64))(shape, shape)

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (np.prod(v.aval.shape) for v in equation.outvars)
            for value in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    found = list(sizes(jaxpr.jaxpr))
    assert 64 * 50 in found  # 50 divides 5000, so that the bank need not be filled up
    assert max(found) <= 2 * 5056 * 8


@pytest.mark.parametrize(("k", "chunk", "width"), [(0, 4, 2), (1, 0, 2), (1, 4, 3)])
def test_wrong_arguments(k, chunk, width):
    with pytest.raises(ValueError, match="must be at least 1 and the vectors of one width"):
        nearest(np.ones((2, 2)), np.ones((3, width)), k, chunk)


def test_partners_leave_out_the_image_itself_even_among_copies():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(10, 4)).astype(np.float32)
    features[[2, 5, 8]] = features[2]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    found = partners(features, count=7, chunk=4)
    assert found.shape == (10, 7)
    assert found.dtype == np.int32
    for index, row in enumerate(found):
        assert index not in row
        assert len(set(row)) == 7
    assert set(found[5, :2]) == {2, 8}
    cosines = np.take_along_axis(features @ features.T, found, axis=1)
    assert (np.diff(cosines, axis=1) <= 1e-6).all()


@pytest.mark.parametrize("count", [0, 3])
def test_more_partners_than_there_are(count):
    with pytest.raises(ValueError, match=f"{count} partners of 3 images; each has 2 others"):
        partners(np.ones((3, 2), np.float32), count)
