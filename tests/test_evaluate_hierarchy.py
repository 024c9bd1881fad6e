"""Hierarchies of a whole split, and what pictures of them need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Batch, Output, UserError
from jaxseg.evaluate_hierarchy import HierarchyEvaluator, group_features
from jaxseg.evaluation.hierarchy import Hierarchy
from jaxseg.record import load_results, save_result, score_table

CLASSES = ("sky", "person")
PARTS = ("sky", "head", "legs")


def predict(image):
    """The value of a pixel is its finest group; groups of two are one of the next level.

    Attention has the cells of the levels, which are not those of the features.
    """
    cells = image[..., 0].astype(jnp.int32)
    return Output(
        features=jax.nn.one_hot(cells[:, ::2, ::2], 4),
        levels=(cells, cells // 2),
        aux={"attention/level1": jax.nn.one_hot(cells, 3), "one": cells[:, 0, 0]},
    )


def make_batches(labelled=True):
    """8 x 8 images: sky on the left (groups 0, 1), a person on the right (groups 2, 3).

    The second image is padded below its first four rows with a group that nothing else has; the
    third only fills up.
    """
    column = np.repeat([0, 1, 2, 3], 2)
    image = np.zeros((3, 1, 8, 8, 3), np.uint8) + column.astype(np.uint8).reshape(1, 1, 1, 8, 1)
    image[1, :, 4:] = 9
    group = np.broadcast_to(column, (3, 8, 8)).astype(np.int32).copy()
    group[1, 4:] = group[2] = -1
    part = np.where(group <= 0, group, group - 1)
    label = {"class": np.where(group < 0, -1, group // 2), "part": part}
    batch = Batch(
        index=jnp.asarray([0, 1, -1]),
        seed=jnp.zeros(3, jnp.uint32),
        image=jnp.asarray(image),
        size=jnp.asarray([[[8, 8]], [[4, 8]], [[8, 8]]]),
        label={k: jnp.asarray(x) for k, x in label.items()} if labelled else {},
    )
    return lambda batch_size=None, limit=None: [batch]


def make(labelled=True, **fields):
    stream = make_batches(labelled)
    probe = Hierarchy(**{"labels": ("class", "part"), "background": ("sky",)} | fields)
    classes = {"class": CLASSES, "part": PARTS} if labelled else {}
    return HierarchyEvaluator("toy", probe, stream, stream, classes)


def test_every_level_is_scored_at_the_resolution_of_the_labels():
    found = make().run(jax.jit(predict), jax.random.key(0)).scalars
    # Neither padding nor the image that fills up the batch counts.
    assert (found["groups_level0"], found["groups_level1"]) == (4, 2)
    assert found["covering_level1_class"] == found["nfcovering_level1_class"] == 1
    assert found["covering_level0_class"] == 0.5
    # Head and legs are groups of the fine level, and half of a group of the coarse one.
    assert found["nfcovering_level0_part"] == found["fscore_level0_part"] == 1
    assert found["nfcovering_level1_part"] == 0.5
    assert found["fscore_level1_part"] == pytest.approx(2 / 3)


def test_features_of_any_method_give_levels():
    fields = {"source": "features", "grid": (1, 4), "rounds": 3, "sizes": (2, 1)}
    result = make(**fields).run(jax.jit(predict), jax.random.key(0))
    assert "attention/level1" not in result.samples.extra
    found = result.scalars
    assert [found[f"groups_level{i}"] for i in range(3)] == [4, 2, 1]
    assert found["fscore_level0_part"] == 1


def test_hierarchies_survive_the_disk_and_have_a_table_of_their_own(tmp_path):
    result = make().run(jax.jit(predict), jax.random.key(0))
    save_result(tmp_path, result, {"seed": 0})
    (found,) = load_results(tmp_path)
    assert (found.kind, found.scalars, found.classes) == ("hierarchy", result.scalars, CLASSES)
    assert found.samples.extra.keys() == result.samples.extra.keys()
    for name, several in result.samples.extra.items():
        for a, b in zip(several, found.samples.extra[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert found.arrays.keys() == {"segment_features", "segment_class", "segment_beside"}
    for name, array in result.arrays.items():
        np.testing.assert_array_equal(array, found.arrays[name])
    classes, parts = score_table([found]).split("\n\n")
    assert "regions of 'part'" in parts
    title, heads, *rows = classes.splitlines()
    assert title == "Levels of groups within each image, finest first, against regions of 'class'"
    assert heads.split() == ["groups", "covering", "%", "nfcovering", "%", "fscore", "%"]
    assert [row.split() for row in rows] == [
        ["toy", "level", "0", "4.0", "50.0", "50.0", "66.7"],
        ["toy", "level", "1", "2.0", "100.0", "100.0", "100.0"],
    ]


def test_samples_hold_what_pictures_show():
    samples = make().run(jax.jit(predict), jax.random.key(0)).samples
    extra = samples.extra
    assert [x.shape for x in samples.images] == [(8, 8, 3), (4, 8, 3)]
    for name in ("level/0", "level/1", "label/0/class", "label/1/part"):
        assert [x.shape for x in extra[name]] == [(8, 8), (4, 8)]
    assert [x.shape for x in extra["features"]] == [(4, 4, 4), (2, 4, 4)]
    assert [x.shape for x in extra["attention/level1"]] == [(8, 8, 3), (4, 8, 3)]
    np.testing.assert_array_equal(extra["groups/0"][1], np.eye(4))
    half = np.repeat(np.eye(2), 2, axis=1) / np.sqrt(2)
    np.testing.assert_allclose(extra["groups/1"][0], half, atol=1e-3)
    assert samples.labels is not None


def test_segments_know_their_class_and_what_is_beside_it():
    arrays = make().run(jax.jit(predict), jax.random.key(0)).arrays
    np.testing.assert_array_equal(arrays["segment_features"], np.tile(np.eye(4), (2, 1)))
    np.testing.assert_array_equal(arrays["segment_class"], [0, 0, 1, 1] * 2)
    # Sky is background: a person has nothing beside it.
    np.testing.assert_array_equal(arrays["segment_beside"], [1, 1, -1, -1] * 2)


def test_without_labels_there_are_pictures():
    result = make(labelled=False).run(jax.jit(predict), jax.random.key(0))
    assert set(result.scalars) == {"groups_level0", "groups_level1"}
    _, heads, fine, _ = score_table([result]).splitlines()
    assert (heads.split(), fine.split()) == (["groups"], ["toy", "level", "0", "4.0"])
    assert result.samples.labels is None
    assert not result.arrays


def test_the_mean_feature_of_a_group():
    features = np.array([[[1.0, 0], [3, 0], [0, 2]]])  # one row of three cells
    groups = np.array([[0, 0, 0, 3, 3, 1], [0, 0, -1, 1, 1, -1]])
    found = group_features(features, groups)
    # Pixels by group and cell: (4, 1, 0), (0, 1, 2), none, (0, 1, 1).
    expected = [[1, 0], [0.6, 0.8], [0, 0], np.array([3, 2]) / np.sqrt(13)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_a_config_can_get_wrong():
    with pytest.raises(UserError, match=r"evals.toy.background names 'ground'; the .* sky, person"):
        make(background=("ground",))
    with pytest.raises(UserError, match=r"evals.toy.labels names 'object'.* it has class, part"):
        make(labels=("class", "object")).run(jax.jit(predict), jax.random.key(0))
