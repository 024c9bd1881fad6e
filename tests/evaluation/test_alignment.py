"""Alignment and uniformity against loops over all pairs."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.evaluation import alignment
from jaxseg.evaluation.alignment import Alignment


def make(count=4, side=3, clusters=3, dim=5):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, side, side, dim)).astype(np.float32)
    labels = rng.integers(0, clusters, (count, side, side))
    valid = rng.random((count, side, side)) < 0.7
    semantics = rng.normal(size=(count, clusters, dim)).astype(np.float32)
    return features, labels, valid, np.arange(count), semantics


def record(batch, rows, own=True, clusters=3):
    start = Alignment.zeros(clusters, batch[0].shape[-1])
    features, labels, valid, index, semantics = (jnp.asarray(x[rows]) for x in batch)
    return start.update(features, labels, valid, index, semantics if own else None)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def spread(points):
    pairs = [(p, q) for i, p in enumerate(points) for q in points[:i]]
    return np.log(np.mean([np.exp(-2 * ((p - q) ** 2).sum()) for p, q in pairs]))


def test_measures_against_loops():
    batch = make()
    features, labels, valid, _, semantics = batch
    found = record(batch, slice(None)).result()
    points, kinds = unit(features)[valid], labels[valid]
    prototypes = np.stack([unit(points[kinds == k].mean(0)) for k in range(3)])
    near = np.mean([((p - prototypes[k]) ** 2).sum() for p, k in zip(points, kinds, strict=True)])
    assert found["alignment"] == pytest.approx(near, rel=1e-5)
    assert found["uniformity"] == pytest.approx(spread(points), rel=1e-5)
    assert found["prototype_uniformity"] == pytest.approx(spread(prototypes), rel=1e-5)
    cosines = [abs(prototypes[i] @ prototypes[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found["prototype_cosine"] == pytest.approx(np.mean(cosines), rel=1e-5)
    own = unit(semantics)
    mine = [
        ((unit(features)[b, i, j] - own[b, labels[b, i, j]]) ** 2).sum()
        for b, i, j in zip(*np.nonzero(valid), strict=True)
    ]
    assert found["semantic_alignment"] == pytest.approx(np.mean(mine), rel=1e-5)
    pairs = [(s[i], s[j]) for s in own for i in range(3) for j in range(i)]
    assert found["semantic_cosine"] == pytest.approx(np.mean([abs(p @ q) for p, q in pairs]))
    expected = np.log(np.mean([np.exp(-2 * ((p - q) ** 2).sum()) for p, q in pairs]))
    assert found["semantic_uniformity"] == pytest.approx(expected, rel=1e-5)


def test_merged_parts_and_fill_ups_change_nothing(monkeypatch):
    monkeypatch.setattr(alignment, "POINTS", 10)
    batch = make()
    whole = record(batch, slice(None)).result()
    parts = record(batch, slice(3, 4)).merge(record(batch, slice(0, 3))).result()
    features, labels, valid, index, semantics = batch
    filled = (
        np.concatenate([features, np.zeros_like(features[:1])]),
        np.concatenate([labels, labels[:1]]),
        np.concatenate([valid, np.zeros_like(valid[:1])]),
        np.concatenate([index, [-1]]),
        np.concatenate([semantics, semantics[:1]]),
    )
    for other in (parts, record(filled, slice(None)).result()):
        assert other == pytest.approx(whole, rel=1e-5)


def test_a_collapse_is_aligned_and_not_uniform():
    features = np.ones((1, 4, 4, 3), np.float32)
    labels = np.arange(16).reshape(1, 4, 4) % 2
    batch = (features, labels, np.ones((1, 4, 4), bool), np.arange(1), np.ones((1, 2, 3)))
    found = record(batch, slice(None), own=False, clusters=4).result()
    assert found["alignment"] == pytest.approx(0, abs=1e-5)
    assert found["uniformity"] == pytest.approx(0, abs=1e-5)
    assert found["prototype_cosine"] == pytest.approx(1)
    assert "semantic_alignment" not in found


def test_without_features_there_is_no_measure():
    assert np.isnan(list(Alignment.zeros(2, 3).result().values())).all()
