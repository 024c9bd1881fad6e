"""The grouping baselines against brute force, SciPy and scikit-learn."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import SpectralClustering

from jaxseg.clustering.finch import partition
from jaxseg.clustering.grouping import GROUPERS
from jaxseg.clustering.ncut import affinity, ncut
from tests.clustering.test_kmeans import same_partition, unit

SIZES = (6, 3)
SLOTS = 48


def families(seed, per_group=6, noise=0.04):
    """Six tight groups of unit vectors, two and two of them near: f32[n 8], groups, pairs."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((6, 8))
    for group in range(6):
        centres[group, group // 2] = 1
        centres[group, 3 + group % 2] = 0.35
    groups = np.repeat(np.arange(6), per_group)
    rng.shuffle(groups)
    points = unit(centres[groups] + rng.normal(0, noise, (len(groups), 8)))
    return points.astype(np.float32), groups, groups // 2


def padded(points, slots=SLOTS, filling=0.0):
    """One image's points f32[slots D], the rest being `filling`, and the mask bool[slots]."""
    segments = np.full((slots, points.shape[1]), filling, np.float32)
    segments[: len(points)] = points
    return segments, np.arange(slots) < len(points)


def run(name, *images, sizes=SIZES):
    """Returns the levels of images given as (segments, mask), as NumPy."""
    segments, mask = (np.stack(parts) for parts in zip(*images, strict=True))
    return [np.asarray(level) for level in GROUPERS[name](segments, mask, sizes)]


@pytest.fixture(params=sorted(GROUPERS))
def name(request):
    return request.param


def test_finds_separate_groups_and_what_they_form(name):
    images = [families(seed) for seed in range(4)]
    levels = run(name, *(padded(points) for points, _, _ in images))
    for found, truth in zip(levels, (1, 2), strict=True):
        assert found.dtype == np.int32
        for number, image in enumerate(images):
            count = len(image[0])
            assert same_partition(found[number, :count], image[truth])
            assert (found[number, count:] == -1).all()


def noise_images(seed, counts=(41, 48, 20, 31)):
    rng = np.random.default_rng(seed)
    return [padded(rng.normal(0.3, 1, (count, 8))) for count in counts]


def test_levels_are_nested_and_within_their_sizes(name):
    images = noise_images(0)
    fine, coarse = run(name, *images)
    for number, (_, mask) in enumerate(images):
        pairs = set(zip(fine[number][mask], coarse[number][mask], strict=True))
        assert len(pairs) == len({group for group, _ in pairs})
        assert {group for group, _ in pairs} <= set(range(6))
        assert 1 < len({group for _, group in pairs}) <= 3
        assert {group for _, group in pairs} <= set(range(3))


def test_an_image_is_grouped_the_same_alone_and_again(name):
    images = noise_images(1)
    together, again = run(name, *images), run(name, *images)
    for number, image in enumerate(images):
        alone = run(name, image, image, image, image)
        for level in range(2):
            assert (together[level][number] == alone[level][0]).all()
            assert (together[level] == again[level]).all()


def test_slots_without_a_segment_change_nothing(name):
    points = [families(seed, noise=0.25)[0] for seed in range(4)]
    few = run(name, *(padded(p) for p in points))
    # Elsewhere, among numbers that mean nothing.
    rng = np.random.default_rng(5)
    images = []
    for p in points:
        segments, mask = rng.normal(0, 9, (70, 8)), np.zeros(70, bool)
        mask[10 : 10 + len(p)] = True
        segments[mask] = p
        images.append((segments.astype(np.float32), mask))
    many = run(name, *images)
    for a, b in zip(few, many, strict=True):
        for number, p in enumerate(points):
            assert same_partition(a[number, : len(p)], b[number, 10 : 10 + len(p)])
            assert (b[number, :10] == -1).all()


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_fewer_segments_than_groups_stay_apart(name, count):
    points = np.eye(8, dtype=np.float32)[:count] + 0.1
    fine, coarse = run(name, *[padded(points)] * 4)
    assert len(set(fine[0, :count])) == count
    assert len(set(coarse[0, :count])) == min(count, 3)
    assert (fine[0, count:] == -1).all()
    assert fine.max(initial=-1) < 6


def test_segments_that_are_equal_are_one_group(name):
    fine, coarse = run(name, *[padded(np.full((9, 8), 0.5, np.float32))] * 4, sizes=(1, 1))
    assert (fine[0, :9] == 0).all()
    assert (coarse[0, :9] == 0).all()


def test_length_does_not_count_and_no_gradient_flows(name):
    images = noise_images(2)
    scaled = [(segments * np.float32(4), mask) for segments, mask in images]
    for a, b in zip(run(name, *images), run(name, *scaled), strict=True):
        assert (a == b).all()

    def loss(segments):
        segments = segments * 2
        level = GROUPERS[name](segments, jnp.ones(segments.shape[:2], bool), (3,))[0]
        return jnp.sum(jnp.where(level == 0, 1.0, 0.0))

    assert not jax.grad(loss)(jnp.ones((1, 5, 4))).any()


def test_compiles_once_for_all_images(name):
    traces = []

    @functools.partial(jax.jit, static_argnames="sizes")
    def group(segments, mask, sizes):
        traces.append(1)
        return GROUPERS[name](segments, mask, sizes)

    for seed in range(3):
        segments, mask = (np.stack(part) for part in zip(*noise_images(seed), strict=True))
        group(segments, mask, sizes=SIZES)
    assert len(traces) == 1


@pytest.mark.parametrize("sizes", [(), (0,), (3, 4)])
def test_sizes_that_make_no_sense_are_refused(name, sizes):
    with pytest.raises(ValueError, match="fine to coarse"):
        run(name, *noise_images(0), sizes=sizes)


def test_kmeans_settles_where_each_mean_is_the_nearest():
    images = noise_images(3)
    (found,) = run("kmeans", *images, sizes=(6,))
    for number, (segments, mask) in enumerate(images):
        points, labels = unit(segments[mask]), found[number][mask]
        means = np.stack([unit(points[labels == c].sum(0)) for c in range(6)])
        assert ((points @ means.T).argmax(1) == labels).all()


def test_ncut_agrees_with_scikit_learn():
    points, mask = padded(families(7, noise=0.12)[0])
    weights = np.asarray(affinity(jnp.asarray(points), jnp.asarray(mask)))[:36, :36]
    cosine = np.maximum(unit(points[:36].astype(float)) @ unit(points[:36].astype(float)).T, 0)
    np.testing.assert_allclose(weights, cosine, atol=1e-6)
    reference = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(cosine)
    (found,) = run("ncut", *[(points, mask)] * 4, sizes=(3,))
    assert same_partition(found[0, :36], reference)


def cut_value(weights, labels):
    """The normalised cut: over groups, the weight to the others by the weight to all."""
    return sum(
        weights[np.ix_(labels == g, labels != g)].sum() / weights[labels == g].sum()
        for g in set(labels)
    )


def test_the_last_cut_is_the_best_one_of_whole_groups():
    points, _, _ = families(8)
    fine, coarse = run("ncut", *[padded(points)] * 4, sizes=(6, 2))
    fine, coarse = fine[0, : len(points)], coarse[0, : len(points)]
    weights = np.maximum(unit(points) @ unit(points).T, 0)
    cuts = [np.array([1, *side]) for side in itertools.product([0, 1], repeat=5)]
    best = min(cut_value(weights, cut[fine]) for cut in cuts if cut.min() == 0)
    assert cut_value(weights, coarse) == pytest.approx(best, rel=1e-5)


def test_ncut_of_a_graph_in_two_parts_is_its_parts():
    weights = np.eye(6, dtype=np.float32)
    for part in ([0, 3, 5], [1, 2, 4]):
        weights[np.ix_(part, part)] = 0.5
    labels = ncut(jnp.asarray(weights), jnp.ones(6, bool), 2)
    assert same_partition(labels, [0, 1, 1, 0, 1, 0])


def pairs_merged(points, count):
    """The groups left when the two with the closest means are merged again and again."""
    groups = [[i] for i in range(len(points))]
    while len(groups) > count:
        means = [unit(points[g].sum(0)) for g in groups]
        pairs = itertools.combinations(range(len(groups)), 2)
        a, b = max(pairs, key=lambda pair: means[pair[0]] @ means[pair[1]])
        groups[a] += groups.pop(b)
    return [next(n for n, g in enumerate(groups) if i in g) for i in range(len(points))]


def test_finch_merges_the_closest_means_one_pair_after_another():
    # Points in a row, ever farther apart, to which noise is added: each one's first neighbour is
    # the one before or near it, so that the first partition has fewer than five groups, and pairs
    # alone are merged.
    images = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        angles = np.cumsum(np.linspace(3, 12, 14)) * np.pi / 180
        points = np.stack([np.cos(angles), np.sin(angles)], 1) + rng.normal(0, 0.03, (14, 2))
        if len(set(np.asarray(partition(jnp.asarray(points), jnp.ones(14, bool))))) < 5:
            images.append(padded(points, 16))
    assert len(images) > 10
    (found,) = run("finch", *images, sizes=(5,))
    for (segments, mask), labels in zip(images, found, strict=True):
        assert same_partition(labels[mask], pairs_merged(unit(segments[mask].astype(float)), 5))


def test_finch_agrees_with_average_linkage_on_separate_points():
    points, _, pairs = families(9, noise=0.02)
    tree = linkage(points.astype(float), "average", metric="cosine")
    (found,) = run("finch", *[padded(points)] * 4, sizes=(3,))
    assert same_partition(found[0, : len(points)], fcluster(tree, 3, "maxclust"))
    assert same_partition(pairs, fcluster(tree, 3, "maxclust"))
