import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.clustering import kmeans
from jaxseg.core import Output, UserError
from jaxseg.evaluation import probes
from jaxseg.evaluation.probes import Argmax, Cluster, sample_features


def numbered(images, height=4, width=5):
    """Features [images height width 2] that name their own (image, cell)."""
    cells = height * width
    grid = np.stack(np.meshgrid(np.arange(images), np.arange(cells), indexing="ij"), -1)
    return grid.reshape(images, height, width, 2).astype(np.float32)


def batches(features, size):
    return [jnp.asarray(features[i : i + size]) for i in range(0, len(features), size)]


def quadrants(seed, images=6):
    """Images with another direction of feature in each quadrant, and the quadrant of each cell."""
    rng = np.random.default_rng(seed)
    truth = np.kron(np.array([[0, 1], [2, 3]]), np.ones((3, 3), int))
    truth = np.broadcast_to(truth, (images, 6, 6))
    features = np.eye(4)[truth] + rng.normal(0, 0.05, (images, 6, 6, 4))
    return features.astype(np.float32), truth


def test_argmax_gives_the_logits_and_reads_nothing():
    output = Output(features=jnp.ones((1, 2, 2, 3)), logits=jnp.arange(8.0).reshape(1, 2, 2, 2))
    fitted = Argmax().fit(lambda: pytest.fail("the split was read"), jax.random.key(0))
    np.testing.assert_array_equal(Argmax().scores(fitted, output), output.logits)


def test_argmax_without_logits_says_what_to_do():
    with pytest.raises(UserError, match=r"no classifier.*cluster"):
        Argmax().scores({}, Output(features=jnp.ones((1, 2, 2, 3))))


@pytest.mark.parametrize("metric", kmeans.METRICS)
def test_cluster_finds_the_quadrants(metric):
    features, truth = quadrants(0)

    def pairs():
        for batch in batches(features, 4):
            yield Output(features=batch), {"class": None}

    probe = Cluster(4, metric=metric, points=100, rounds=5)
    fitted = probe.fit(pairs, jax.random.key(0))
    found = probe.scores(fitted, Output(features=jnp.asarray(features)))
    assert found.shape == (6, 6, 6, 4)
    label = np.asarray(found.argmax(-1))
    of_quadrant = [np.unique(label[truth == q]).tolist() for q in range(4)]
    assert sorted(of_quadrant) == [[0], [1], [2], [3]]
    again = probe.fit(pairs, jax.random.key(0))
    np.testing.assert_array_equal(fitted["centroids"], again["centroids"])
    other = probe.fit(pairs, jax.random.key(1))
    assert not np.array_equal(fitted["centroids"], other["centroids"])


def test_cluster_scores_are_those_that_a_crf_starts_from():
    rng = np.random.default_rng(0)
    features, centroids = rng.normal(size=(1, 2, 3, 5)), rng.normal(size=(4, 5))
    fitted = {"centroids": jnp.asarray(centroids, jnp.float32)}
    found = Cluster(4).scores(fitted, Output(features=jnp.asarray(features, jnp.float32)))
    lengths = np.linalg.norm(features, axis=-1)[..., None] * np.linalg.norm(centroids, axis=-1)
    np.testing.assert_allclose(found, 2 * features @ centroids.T / lengths, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("points", [1, 9, 63, 64, 1000])
def test_sample_does_not_depend_on_the_batches(points):
    features = numbered(16)
    found = [sample_features(batches(features, n), points, jax.random.key(3)) for n in (1, 5, 16)]
    assert len(found[0]) == min(points, 16 * 20)
    assert len(np.unique(found[0], axis=0)) == len(found[0])
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    if 1 < points < 320:
        assert not np.array_equal(
            found[0], sample_features(batches(features, 5), points, jax.random.key(4))
        )


def test_sample_takes_equal_shares_of_random_cells():
    sample = sample_features(batches(numbered(16), 3), 16 * 5, jax.random.key(0)).astype(int)
    shares = np.bincount(sample[:, 0], minlength=16)
    assert set(shares.tolist()) <= {4, 5, 6}
    assert np.all(np.bincount(sample[:, 1], minlength=20) < 16)  # not the same cells everywhere
    few = sample_features(batches(numbered(300), 7), 30, jax.random.key(0))[:, 0]
    assert len(np.unique(few)) == 30  # fewer points than images: at most one of each
    assert few.min() < 100  # early and late images alike
    assert few.max() >= 200


def test_sample_is_fair_to_every_cell():
    counts = np.zeros((6, 20))
    for seed in range(60):
        sample = sample_features(batches(numbered(6), 4), 30, jax.random.key(seed)).astype(int)
        np.add.at(counts, tuple(sample.T), 1)
    # Each cell is drawn with probability 1/4: mean 15, standard deviation 3.4.
    assert counts.min() > 0
    assert counts.max() < 33
    np.testing.assert_allclose(counts.mean(1), 15, atol=2)


def test_sample_weighs_images_of_other_sizes_by_their_cells():
    sizes = [jnp.zeros((2, 10, 10, 1)), jnp.ones((2, 5, 10, 1))]
    sample = sample_features(sizes, 60, jax.random.key(0))
    assert abs(sample.sum() - 20) <= 4


def test_few_points_leave_the_device(monkeypatch):
    taken = []

    def count(batch, chosen):
        taken.append(len(chosen))
        return np.asarray(batch.reshape(-1, batch.shape[-1]))[chosen]

    monkeypatch.setattr(probes, "_take", count)
    sample_features(batches(numbered(200), 4), 50, jax.random.key(0))
    assert max(taken) <= 50
    assert sum(taken) < 600  # of 4000; the share of each image falls as images come


def test_half_precision_features_are_widened():
    sample = sample_features([jnp.ones((1, 2, 2, 3), jnp.float16)], 9, jax.random.key(0))
    assert sample.dtype == np.float32
    assert sample.shape == (4, 3)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "0 feature vectors for 5 clusters"),
        ([jnp.ones((1, 2, 2, 3))], "4 feature vectors for 5 clusters"),
        ([jnp.full((1, 3, 3, 3), jnp.nan)], "nan or infinity"),
    ],
)
def test_cluster_says_why_it_cannot_fit(features, message):
    with pytest.raises(UserError, match=message):
        Cluster(5).fit(lambda: ((Output(features=f), {}) for f in features), jax.random.key(0))


@pytest.mark.parametrize(
    "change", [{"metric": "cosine"}, {"clusters": 0}, {"points": 0}, {"rounds": 0}, {"restarts": 0}]
)
def test_cluster_refuses_values_out_of_range(change):
    (name,) = change
    with pytest.raises(UserError, match=name):
        dataclasses.replace(Cluster(3), **change)
