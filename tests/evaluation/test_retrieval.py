"""Classes of segments, looked up in a bank of labelled ones."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.clustering import neighbours
from jaxseg.clustering.segments import grid_kmeans
from jaxseg.core import Output, UserError
from jaxseg.evaluation.retrieval import Retrieval, Truth, majority, segments, vote

GOLDEN = pathlib.Path(__file__).parents[2] / "../shared/golden/retrieval.npz"
GRID, ROUNDS = (2, 3), 5


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.is_file():
        pytest.skip(f"no golden values: {GOLDEN} is missing")
    with np.load(GOLDEN) as file:
        return dict(file)


def test_the_vote_is_that_of_the_released_code(golden):
    k, classes = int(golden["k"]), int(golden["bank_labels"].max()) + 1
    queries, bank, labels = (jnp.asarray(golden[n]) for n in ("queries", "bank", "bank_labels"))
    _, found = neighbours.nearest(queries, bank, k)
    np.testing.assert_array_equal(golden["bank_labels"][np.asarray(found)], golden["topk_labels"])
    votes = vote(queries, bank, labels, k, classes)
    np.testing.assert_array_equal(votes.argmax(-1), golden["majority"])
    expected = [np.bincount(row, minlength=classes) for row in golden["topk_labels"]]
    np.testing.assert_array_equal(votes, expected)


def test_a_small_bank_votes_as_a_whole():
    votes = vote(jnp.eye(2), jnp.eye(2), jnp.asarray([1, 0]), 20, 3)
    np.testing.assert_array_equal(votes, [[1, 1, 0], [1, 1, 0]])


def images(count=4, height=8, width=12):
    """Features at half the resolution of their valid pixels; the images have several sizes."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, height // 2, width // 2, 5)).astype(np.float32)
    valid = np.zeros((count, height, width), bool)
    for i in range(count):
        valid[i, : height - i, : width - 2 * i] = True
    return features, valid


def test_segments_are_those_of_k_means_at_the_resolution_of_the_labels():
    features, valid = images()
    numbers, means = segments(features, valid, GRID, ROUNDS)
    pixels = np.asarray(jax.image.resize(features, (4, 8, 12, 5), "bilinear"))
    pixels = pixels / np.linalg.norm(pixels, axis=-1, keepdims=True)
    expected = np.asarray(grid_kmeans(jnp.asarray(pixels), GRID, ROUNDS, jnp.asarray(valid)))
    np.testing.assert_array_equal(numbers, np.where(valid, expected, 6))
    for image in range(4):
        for segment in range(6):
            total = pixels[image][np.asarray(numbers[image]) == segment].sum(axis=0)
            total /= max(np.linalg.norm(total), 1e-9)
            np.testing.assert_allclose(means[image, segment], total, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing():
    features, valid = images()
    other = features.copy()
    other[3, 3:] = 9.0  # rows 6 and 7, beyond the 5 that are valid and those that they blend with
    for a, b in zip(
        segments(features, valid, GRID, ROUNDS), segments(other, valid, GRID, ROUNDS), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_segments_of_a_batch_over_several_devices():
    features, valid = images()
    mesh = Mesh(jax.devices()[:2], ("data",))
    put = NamedSharding(mesh, PartitionSpec("data"))
    sharded = [jax.device_put(x, put) for x in (features, valid)]
    for a, b in zip(
        segments(features, valid, GRID, ROUNDS),
        segments(*sharded, GRID, ROUNDS, together=2),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_most_frequent_label_of_a_segment():
    numbers = np.array([[[0, 0, 0, 1, 1, 2, 2, 2, 4, 4]]])
    label = np.array([[[2, 1, -1, 1, -1, -1, -1, 0, 0, 0]]])
    # A tie of three labels, a tie with ignored pixels, a majority of those, and no pixel.
    np.testing.assert_array_equal(majority(numbers, label, 4, 3), [[1, 1, 3, -1]])


def stripes(labels):
    """Images of 8 x 8 pixels in two halves, each with the direction and the label of a class."""
    label = np.stack([np.repeat([pair], 8, axis=0).repeat(4, axis=1) for pair in labels])
    return Output(features=jnp.asarray(np.eye(4, dtype=np.float32)[label])), label


def fit(probe, labels, ignored=None):
    output, label = stripes(labels)
    label = np.where(label == ignored, -1, label)
    truth = Truth(jnp.asarray(label), jnp.ones(label.shape, bool), 4)
    return probe.fit(lambda: [(output, truth)], jax.random.key(0))


def test_images_are_painted_with_the_classes_of_the_bank():
    probe = Retrieval(grid=(1, 2), rounds=5, neighbours=2)
    fitted = fit(probe, [(0, 1), (1, 2), (2, 0), (0, 3)], ignored=3)
    assert fitted["bank"].shape == (7, 4)  # ignored segments are dropped
    assert sorted(fitted["labels"].tolist()) == [0, 0, 0, 1, 1, 2, 2]
    output, label = stripes([(2, 1), (0, 2)])
    scores = probe.scores(fitted, output, jnp.ones(label.shape, bool))
    assert scores.shape == (2, 8, 8, 4)
    np.testing.assert_array_equal(scores.argmax(-1), label)
    np.testing.assert_allclose(jax.nn.softmax(scores)[0, 0, 0], [0, 0, 1, 0], atol=1e-4)


def test_ties_go_to_the_smaller_class():
    probe = Retrieval(grid=(1, 2), rounds=5, neighbours=8)
    fitted = fit(probe, [(3, 1), (1, 3), (0, 0), (1, 3)])
    found = probe.scores(fitted, stripes([(3, 3)])[0]).argmax(-1)
    assert np.unique(found).tolist() == [1]  # 3 of 8 for class 3 as well, the nearest even


@pytest.mark.parametrize(
    "change", [{"grid": (0, 3)}, {"grid": (3,)}, {"rounds": 0}, {"neighbours": 0}]
)
def test_values_out_of_range(change):
    with pytest.raises(UserError, match="grid is"):
        Retrieval(**change)


def test_what_cannot_be_fitted_is_said():
    probe = Retrieval(grid=(1, 2), rounds=2)
    with pytest.raises(UserError, match="no segment of the training split has a class"):
        fit(probe, [(3, 3)], ignored=3)
    output, label = stripes([(0, 1)])
    broken = Output(features=output.features * jnp.nan)
    truth = Truth(jnp.asarray(label), jnp.ones(label.shape, bool), 4)
    with pytest.raises(UserError, match="nan or infinity"):
        probe.fit(lambda: [(broken, truth)], jax.random.key(0))
    with pytest.raises(UserError, match="wants 'tokens'"):
        Retrieval(source="tokens").check(output)
