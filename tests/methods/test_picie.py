"""PiCIE's refit and loss against plain NumPy, and MDC's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.build import make_method
from jaxseg.core import Batch, UserError
from jaxseg.methods.deepcluster import DeepCluster
from jaxseg.methods.picie import PiCIE

SMALL = {
    "clusters": 3, "backbone": "resnet_tiny", "dim": 6, "size": 16, "sample_rounds": 3,
    "sample_batches": 2,
}  # fmt: skip


def make_batch(first, count=4, fill=0):
    rng = np.random.default_rng(first)
    index = np.arange(first, first + count)
    index[count - fill :] = -1
    return Batch(
        index=jnp.asarray(index),
        seed=jnp.asarray(np.arange(first, first + count), jnp.uint32),
        image=jnp.asarray(rng.integers(0, 256, (count, 1, 24, 24, 3)), jnp.uint8),
    )


def stream(batch_size=None, limit=None):
    return [make_batch(0), make_batch(4), make_batch(8), make_batch(12, fill=1)]


@functools.cache
def refitted(kind, **fields):
    method = kind(**SMALL, **dict(fields))
    state = method.init(jax.random.key(0), make_batch(0))
    return method, state, method.refit(state, stream, jax.random.key(1))


def nearest(points, centroids):
    return ((points[..., None, :] - centroids) ** 2).sum(-1).argmin(-1)


def cross_entropy(scores, labels, weights):
    log_z = np.log(np.exp(scores).sum(-1))
    loss = log_z - np.take_along_axis(scores, labels[..., None], -1)[..., 0]
    return (weights[labels] * loss).sum() / weights[labels].sum()


def test_a_refit_counts_what_the_snapshot_will_label():
    method, before, state = refitted(PiCIE)
    extra = state.extra
    assert jax.tree.map(jnp.shape, extra) == jax.tree.map(jnp.shape, before.extra)
    own = extra["clusterings"]["main"]
    counts = np.zeros((2, 3))
    for batch in stream():
        real = np.asarray(batch.index) >= 0
        for view, found in enumerate(method._views_of(extra["snapshot"], batch)):
            labels = nearest(np.asarray(found)[real], np.asarray(own["centroids"][view]))
            counts[view] += np.bincount(labels.ravel(), minlength=3)
    np.testing.assert_allclose(own["weights"], counts / counts.sum(1, keepdims=True), atol=2e-3)
    assert counts.sum() == 2 * 15 * 4 * 4
    np.testing.assert_array_equal(extra["classifier"], own["centroids"][0])
    # The snapshot is the network, with the statistics that the refit's own passes have moved.
    same = functools.partial(jax.tree.map, np.array_equal)
    assert all(jax.tree.leaves(same(extra["snapshot"]["params"], state.params)))
    assert all(jax.tree.leaves(same(extra["snapshot"]["backbone"], extra["backbone"])))
    assert not all(jax.tree.leaves(same(extra["backbone"], before.extra["backbone"])))
    again = method.refit(before, stream, jax.random.key(1))
    assert all(jax.tree.leaves(same(again, state)))


@pytest.mark.parametrize("weighting", ["proportional", "inverse"])
def test_the_loss_is_that_of_the_equations(weighting):
    method, _, state = refitted(PiCIE)
    method = PiCIE(**SMALL, weighting=weighting)
    batch = make_batch(4)
    loss, (_, metrics) = method.loss(state, batch, jax.random.key(0))
    own = jax.tree.map(np.asarray, state.extra["clusterings"]["main"])
    weights = own["weights"] if weighting == "proportional" else 1 / own["weights"]
    seen = method._views_of(state.extra["snapshot"], batch)
    features, _ = method._views(state.params, state.extra, batch)
    within, cross = [], []
    for i in (0, 1):
        labels = nearest(np.asarray(seen[i]), own["centroids"][i])
        for j in (0, 1):
            scores = np.asarray(features[j]) @ own["centroids"][i].T
            (within if i == j else cross).append(cross_entropy(scores, labels, weights[i]))
    assert float(metrics["L_within"]) == pytest.approx(np.mean(within), rel=1e-4)
    assert float(metrics["L_cross"]) == pytest.approx(np.mean(cross), rel=1e-4)
    assert float(loss) == pytest.approx((np.mean(within) + np.mean(cross)) / 2, rel=1e-4)


def test_fresh_centroids_at_the_end_and_those_of_training_beside_them():
    method, _, state = refitted(PiCIE)
    done = method.finish(state, stream, jax.random.key(2))
    image = make_batch(0).first_view
    before, after = method.predict(state, image), method.predict(done, image)
    np.testing.assert_array_equal(before.logits, before.aux["training_centroids"])
    assert not np.allclose(after.logits, after.aux["training_centroids"])
    assert jax.tree.map(jnp.shape, done.extra) == jax.tree.map(jnp.shape, state.extra)


def test_overclustering_weighs_the_two_losses_by_the_logarithms():
    method = PiCIE(**SMALL, overclusters=9)
    shares = {name: share for name, (_, share) in method._clusterings.items()}
    assert shares["main"] == pytest.approx(2 / 3)  # log 9 / (log 3 + log 9)
    assert shares["over"] == pytest.approx(1 / 3)


def test_deepcluster_begins_its_classifier_anew():
    method, before, state = refitted(DeepCluster)
    assert method.resets == ("head",)
    head, old = state.params["head"], before.params["head"]
    assert not np.allclose(head["kernel"], old["kernel"])
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, before)
    assert state.params["fpn"] is before.params["fpn"]
    np.testing.assert_allclose(state.extra["weights"].sum(), 1, rtol=1e-5)
    loss, _ = method.loss(state, make_batch(0), jax.random.key(0))
    assert float(loss) == pytest.approx(np.log(3), abs=0.05)  # a classifier near zero


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clusters": 1}, "method.clusters is 1"),
        ({"smallest_crop": 0.0}, "smallest_crop"),
        ({"jitter": (0.1,)}, "brightness, contrast"),
        ({"faithful_bugs": ("gray",)}, "no_grey, blur_sigma"),
        ({"weighting": "balanced"}, "proportional, inverse"),
        ({"backbone": "vit_small_8"}, "resnet18"),
    ],
)
def test_wrong_fields(change, message):
    with pytest.raises(UserError, match=message):
        make_method({"name": "picie", **SMALL, **change})
