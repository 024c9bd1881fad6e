import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.clustering.nearest import normalise
from jaxseg.clustering.segments import segment_directions
from jaxseg.losses.contrastive import (
    Compared,
    hierarchical_contrast,
    segment_contrast,
    separation,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def by_hand(features, slot, segments, mask, groups, kappa):
    """The loss of every cell of images [B N D], in float64, -1 where a cell is in no segment."""
    losses = np.full(slot.shape, -1.0)
    batch, slots = mask.shape
    for b, n in np.argwhere(slot < slots):
        positives, negatives = [], []
        for image in range(batch):
            for s in np.flatnonzero(mask[image]):
                value = np.exp(kappa * features[b, n] @ segments[image, s])
                if image != b or groups[image, s] != groups[b, slot[b, n]]:
                    negatives.append(value)
                elif s != slot[b, n]:
                    positives.append(value)
        if not positives:
            positives = [np.exp(kappa * features[b, n] @ segments[b, slot[b, n]])]
        losses[b, n] = -np.log(sum(positives) / (sum(positives) + sum(negatives)))
    return losses


def example(batch=3, count=50, slots=9, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    features = np.asarray(normalise(jnp.asarray(rng.normal(size=(batch, count, dim)), jnp.float32)))
    slot = rng.integers(0, slots - 2, (batch, count)).astype(np.int32)
    slot[:, ::7] = slots  # padding
    slot[2][slot[2] == 1] = 0  # an image with fewer segments
    segments = np.asarray(segment_directions(jnp.asarray(features), jnp.asarray(slot), slots))
    mask = np.stack([np.isin(np.arange(slots), row) for row in slot])
    groups = rng.integers(0, 3, (batch, slots)).astype(np.int32)
    groups[0] = np.arange(slots)  # every segment alone: no positives
    return features, slot, segments, mask, groups


def test_contrast_matches_the_reference():
    golden = np.load(GOLDEN / "pixel_segment_contrast.npz")
    groups = jnp.asarray(golden["group_of_segment"], jnp.int32)[None]
    slot = jnp.asarray(golden["segment_of_pixel"], jnp.int32)[None]
    slots, kappa = groups.shape[1], 1 / float(golden["temperature"])
    mask = jnp.ones((1, slots), bool)

    def loss(raw, detached):
        features = normalise(raw[None])
        segments = segment_directions(features, slot, slots)
        if detached:
            segments = jax.lax.stop_gradient(segments)
        (found,) = hierarchical_contrast(Compared(features, slot, segments, mask), (groups,), kappa)
        return found, segments

    raw = jnp.asarray(golden["features"])
    for detached, name in ((False, "grad_features"), (True, "grad_features_segments_detached")):
        (found, segments), grad = jax.value_and_grad(loss, has_aux=True)(raw, detached)
        np.testing.assert_allclose(found, golden["loss_per_pixel"].mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(segments[0], golden["segment_features"], rtol=1e-4, atol=1e-6)
        largest = np.abs(golden[name]).max()
        assert np.abs(np.asarray(grad) - golden[name]).max() <= 1e-3 * largest


def test_contrast_over_images_matches_brute_force_whatever_the_chunk():
    features, slot, segments, mask, groups = example()
    one = np.zeros_like(groups)
    expected = [by_hand(features, slot, segments, mask, g, 8.0) for g in (groups, one)]
    for chunk in (7, 50, 64):
        found = hierarchical_contrast(
            Compared(*map(jnp.asarray, (features, slot, segments, mask))),
            (groups, one),
            8.0,
            chunk=chunk,
        )
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want[want >= 0].mean(), rtol=1e-5)


def test_one_segment_an_image_is_a_log_ratio():
    features = jnp.asarray([[[1.0, 0.0]], [[0.0, 1.0]]])
    slot = jnp.zeros((2, 1), jnp.int32)
    mask = jnp.ones((2, 1), bool)
    (found,) = hierarchical_contrast(Compared(features, slot, features, mask), (slot,), 2.0)
    expected = -np.log(np.exp(2) / (np.exp(2) + 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = segment_contrast(Compared(features, slot, features, mask), 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_segsort_contrasts_the_own_segment_with_all():
    features, slot, segments, mask, _ = example()
    similarity = 8.0 * np.einsum("bnd,csd->bncs", features, segments)
    total = np.log((np.exp(similarity) * mask[None, None]).sum((2, 3)))
    losses = [
        total[b, n] - similarity[b, n, b, slot[b, n]] for b, n in np.argwhere(slot < mask.shape[1])
    ]
    found = segment_contrast(
        Compared(*map(jnp.asarray, (features, slot, segments, mask))), 8.0, chunk=16
    )
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_gradients_are_finite_where_images_are_empty():
    features, slot, segments, mask, groups = example()
    slot[1], mask[1] = mask.shape[1], False

    def loss(features, segments):
        compared = Compared(features, slot, segments, mask)
        parts = hierarchical_contrast(compared, (groups,), 16.0)
        return parts[0] + segment_contrast(compared, 16.0)

    grads = jax.grad(loss, (0, 1))(jnp.asarray(features), jnp.asarray(segments))
    assert all(bool(jnp.isfinite(g).all()) for g in grads)
    assert float(jnp.abs(grads[0][1]).max()) == 0


def test_separation_is_lowest_for_opposite_centroids():
    apart = separation(jnp.asarray([[[1.0, 0.0], [-1.0, 0.0]]]), 16.0)
    same = separation(jnp.asarray([[[1.0, 0.0], [2.0, 0.0]]]), 16.0)
    np.testing.assert_allclose(apart, np.log(1 + np.exp(-32)), atol=1e-6)
    np.testing.assert_allclose(same, np.log(2), rtol=1e-6)
