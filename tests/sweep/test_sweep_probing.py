"""Sweeps over features whose clusters are known, and over features that have none."""

import jax
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.evaluation.probes import Cluster
from jaxseg.sweep.measures import Probed, Settings
from jaxseg.sweep.probing import sweep_features

SETTINGS = Settings(clusters=(2, 3, 5, 8), seeds=3, references=3)
DIM = 8


def clusters_of(count, spread):
    """Returns a function that draws points around `count` directions."""

    def draw(points, rng):
        centre = np.eye(DIM)[rng.integers(0, count, points)]
        return (centre + spread * rng.normal(size=(points, DIM))).astype(np.float32)

    return draw


def one_cloud(points, rng):
    """A Gaussian in which a few directions matter most."""
    return (1 + rng.normal(size=(points, DIM)) / np.arange(1, DIM + 1)).astype(np.float32)


def swept(draw, settings=SETTINGS):
    rng = np.random.default_rng(0)
    probed = Probed([draw(300, rng) for _ in range(settings.seeds)], draw(250, rng))
    return sweep_features(probed, settings, jax.random.key(0), Cluster(2, rounds=10))


@pytest.mark.parametrize("count", [3, 5])
def test_clusters_that_are_apart_are_counted(count):
    seen = []
    rng = np.random.default_rng(0)
    draw = clusters_of(count, 0.15)
    probed = Probed([draw(300, rng) for _ in range(3)], draw(250, rng))
    found, centroids = sweep_features(
        probed, SETTINGS, jax.random.key(0), Cluster(2, rounds=10), seen.append
    )
    assert found.best == count
    assert len(found.voters) == 3
    assert list(found.trials) == seen
    own = found.trials[SETTINGS.clusters.index(count)]
    assert own.found["stability"] > 0.99
    assert own.effective_clusters == pytest.approx(count, rel=0.1)
    # The centroids are those directions, for every seed.
    for each in centroids[count]:
        np.testing.assert_array_equal(np.sort(each.argmax(1)), np.arange(count))
        assert each.max(1).min() > 0.9
    assert [len(each) for each in centroids.values()] == [SETTINGS.seeds] * 4


def test_one_cloud_has_no_number_of_clusters():
    """Though k-means cuts it into two on which all seeds agree, as the raw values say."""
    found, _ = swept(one_cloud)
    assert found.best is None
    values = [trial.found["silhouette"] for trial in found.trials]
    assert values[0] > 0.2
    assert np.argmax(values) == 0


def test_the_same_key_gives_the_same_sweep():
    settings = Settings(clusters=(2, 3), seeds=2, references=2)
    first, again = (swept(clusters_of(3, 0.15), settings)[0] for _ in range(2))
    assert first == again


def test_more_clusters_than_cells():
    with pytest.raises(UserError, match="K = 8, but each seed has 5 cells"):
        Probed([np.eye(5, DIM)] * 2, np.eye(5, DIM)).cluster(8, jax.random.key(0), Cluster(2))


def test_settings_are_checked():
    for fields, message in (
        ({"clusters": (4,)}, "at least two numbers"),
        ({"clusters": (1, 4)}, "at least 2"),
        ({"seeds": 1}, "sweep.seeds is 1"),
    ):
        with pytest.raises(UserError, match=message):
            Settings(**fields)
