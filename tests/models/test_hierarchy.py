"""The hierarchy of groups: propagation and positions by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models import weights
from jaxseg.models.clustering_transformer import ClusteringTransformer
from jaxseg.models.hierarchy import Hierarchy, resample, segment_positions

SIZES, DIM = (5, 3, 2), 8
NET = Hierarchy(
    SIZES,
    table=10,
    transformer=functools.partial(
        ClusteringTransformer, heads=2, hidden=8, dropout=0.1, layers=(1, 1)
    ),
)
B, V, S, h, w = 2, 2, 12, 6, 4


@functools.cache
def setting():
    """Returns (params, stats, inputs): segments 0..9 of random cells, two padded slots."""
    rng = np.random.default_rng(0)
    slots = rng.integers(-1, 10, (B, V, h, w)).astype(np.int32)
    mask = np.broadcast_to(np.arange(S)[None] < 10, (B, S))
    segments = rng.normal(size=(B, S, DIM)).astype(np.float32)
    return *NET.draw(jax.random.key(0), DIM), (segments, mask, slots)


@functools.cache
def levels():
    params, stats, inputs = setting()
    return jax.jit(lambda *a: NET.group(*a, train=False))(params, stats, *inputs)[0]


def positions_by_hand(slots, rows, columns, count):
    expected = np.zeros((len(slots), count, rows.shape[1] * 2))
    for b, s in np.ndindex(expected.shape[:2]):
        cells = [
            np.concatenate([columns[x], rows[y]])
            for v, y, x in np.ndindex(slots.shape[1:])
            if slots[b, v, y, x] == s
        ]
        expected[b, s] = np.mean(cells, axis=0) if cells else 0
    return expected


def test_positions_of_segments_are_the_means_of_their_cells():
    params, _, (_, _, slots) = setting()
    rows, columns = (np.asarray(params[name]) for name in ("rows", "columns"))
    found = segment_positions(jnp.asarray(slots), rows[:h], columns[:w], S)
    np.testing.assert_allclose(found, positions_by_hand(slots, rows, columns, S), atol=1e-6)
    assert (np.asarray(found)[:, 10:] == 0).all()


def test_levels_propagate_by_hand():
    """Each transformer once more by itself, on what the level before should give it."""
    params, stats, (segments, mask, slots) = setting()
    codes = positions_by_hand(slots, *(np.asarray(params[n]) for n in ("rows", "columns")), S)
    features, positions, product = segments, codes.astype(np.float32), None
    for i, (size, level) in enumerate(zip(SIZES, levels(), strict=True)):
        variables = {"params": params[f"level_{i}"], "batch_stats": stats[f"level_{i}"]}
        found = NET.transformer(next_level=i + 1 < len(SIZES)).apply(
            variables, features, positions, params[f"queries_{i}"], None if i else mask
        )
        np.testing.assert_allclose(level.logits, found.logits, atol=1e-5)
        np.testing.assert_allclose(level.centroids, found.centroids, atol=1e-5)
        assert level.attention.shape == (B, 2, size, features.shape[1])
        transition = np.exp(found.logits) / np.exp(found.logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(level.transition, transition, rtol=1e-4)
        product = transition * mask[..., None] if i == 0 else product @ transition
        np.testing.assert_allclose(level.assignment, product, atol=1e-5)
        group = np.where(mask, product.argmax(-1), -1)
        np.testing.assert_array_equal(level.group, group)
        if found.features is None:
            break
        features, positions = found.features, np.zeros((B, size, DIM), np.float32)
        for b, k in np.ndindex(B, size):
            if (group[b] == k).any():
                positions[b, k] = codes[b][group[b] == k].mean(0)


def test_probabilities_sum_to_one_but_for_padding():
    for size, level in zip(SIZES, levels(), strict=True):
        assert level.assignment.shape == (B, S, size)
        np.testing.assert_allclose(level.assignment[:, :10].sum(-1), 1, rtol=1e-5)
        assert (np.asarray(level.assignment)[:, 10:] == 0).all()


def test_gradients_reach_everything_and_statistics_move():
    inputs = setting()[2]
    net = NET.clone(sizes=SIZES[:2])
    params, stats = net.draw(jax.random.key(0), DIM)

    @jax.jit
    def total(params, segments, key):
        def loss(params, segments):
            found, new = net.group(params, stats, segments, *inputs[1:], train=True, key=key)
            return sum((x.assignment**2).sum() + (x.centroids**3).sum() for x in found), new

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, segments)

    (one, new), grads = total(params, inputs[0], jax.random.key(0))
    (two, _), _ = total(params, inputs[0], jax.random.key(1))
    assert one != two
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    for name, tree in grads[0].items():
        assert max(np.abs(g).max() for g in jax.tree.leaves(tree)) > 0, name
    assert np.abs(grads[1][:, :10]).max(-1).min() > 0
    assert weights.shapes(new) == weights.shapes(stats)
    assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, new, stats)))


def test_first_values_of_tables_and_queries():
    params, _ = Hierarchy((300,), transformer=NET.transformer).draw(jax.random.key(0), 32)
    for name in ("rows", "columns"):
        assert params[name].shape == (50, 16)
        assert 0 <= params[name].min() < 0.02
        assert 0.98 < params[name].max() <= 1
    assert np.std(params["queries_0"]) == pytest.approx(1, abs=0.05)


def test_positions_are_resampled_between_the_cells_of_training():
    table = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    np.testing.assert_array_equal(resample(table, 6, 6), table[:6])
    np.testing.assert_array_equal(resample(table, 6, 0), table[:6])
    for cells in (3, 9, 12):
        place = np.clip((np.arange(cells) + 0.5) / cells * 6 - 0.5, 0, 5)
        expected = np.stack([np.interp(place, np.arange(6), table[:6, d]) for d in range(3)], 1)
        np.testing.assert_allclose(resample(jnp.asarray(table), cells, 6), expected, atol=1e-6)
    for cells, trained in ((11, 0), (4, 11)):
        with pytest.raises(ValueError, match="11 cells"):
            resample(table, cells, trained)
