"""Levels of groups: where they come from, and what a record of their scores holds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Output, UserError
from jaxseg.evaluation.hierarchy import Hierarchy, HierarchyScores
from jaxseg.evaluation.regions import RegionScores, compare


def quadrants():
    """An image of four directions, two of them near each other; the last two columns are padding.

    Returns features [1 8 10 3], valid pixels [1 16 20] and the quadrant of each real cell [8 8].
    """
    truth = np.kron(np.array([[0, 1], [2, 3]]), np.ones((4, 4), int))
    directions = np.array([[1, 0, 0], [0.9, 0.4, 0], [0, 0, 1], [0, 0.4, 0.9]], np.float32)
    features = np.concatenate([directions[truth], np.full((8, 2, 3), 7.0, np.float32)], axis=1)
    valid = np.zeros((1, 16, 20), bool)
    valid[:, :, :16] = True
    return Output(features=jnp.asarray(features[None])), jnp.asarray(valid), truth


@pytest.mark.parametrize("grouper", Hierarchy.choices["grouper"])
def test_levels_from_features_merge_base_segments(grouper):
    output, valid, truth = quadrants()
    probe = Hierarchy(source="features", grid=(2, 2), rounds=5, sizes=(2, 1), grouper=grouper)
    base, fine, coarse = (np.asarray(x)[0] for x in probe.levels(output, valid))
    assert base.shape == (8, 10)
    for level in (base, fine, coarse):
        assert set(level[:, 8:].ravel()) == {-1}  # padding is in no group
    groups = [np.unique(base[:, :8][truth == q]).tolist() for q in range(4)]
    assert sorted(groups) == [[0], [1], [2], [3]]
    assert np.unique(fine[:4, :8]).size == np.unique(fine[4:, :8]).size == 1
    assert fine[0, 0] != fine[7, 0]
    assert np.unique(coarse[:, :8]).size == 1


def test_levels_of_the_method_itself():
    levels = (jnp.zeros((1, 2, 2), jnp.int32), jnp.ones((1, 2, 2), jnp.int32))
    output = Output(features=jnp.ones((1, 2, 2, 3)), levels=levels)
    assert Hierarchy().levels(output, jnp.ones((1, 4, 4), bool)) is levels
    with pytest.raises(UserError, match=r"no levels of its own.*source to 'features'"):
        Hierarchy().check(output.replace(levels=()))
    with pytest.raises(UserError, match="wants 'tokens'"):
        Hierarchy(source="tokens").check(output)


CLASSES = np.array([[0, 0, 0, 1], [0, 0, 2, 2], [-1, -1, 2, 2]])
PARTS = np.array([[0, 0, 3, 1], [0, 0, 2, 2], [2, -1, 2, 4]])
LEVELS = [np.arange(12).reshape(3, 4), np.array([[0, 0, 1, 1]] * 3)]
BACKGROUND = np.array([True, False, False])


def test_every_level_is_compared_with_every_label_map():
    record = HierarchyScores().update(LEVELS, {"class": CLASSES, "part": PARTS}, BACKGROUND)
    found = record.result()
    assert (found["groups_level0"], found["groups_level1"]) == (12, 2)
    # Parts 0 and 3 lie in class 0, which is background; most of part 2 lies in class 2.
    lies_outside = {
        "class": np.array([False, True, True]),
        "part": np.array([False, True, True, False, True]),
    }
    for name, label in (("class", CLASSES), ("part", PARTS)):
        for number, level in enumerate(LEVELS):
            one = RegionScores().update(compare(label, level), lies_outside[name]).result()
            for measure, value in one.items():
                assert found[f"{measure}_level{number}_{name}"] == value
    assert len(found) == 2 + 3 * 2 * 2


def test_pixels_without_a_label_may_be_dropped():
    regions = {"class": np.array([[0, 0, -1, -1]])}
    levels = [np.zeros((1, 4), int)]
    kept, dropped = (
        HierarchyScores().update(levels, regions, np.zeros(1, bool), ignored).result()
        for ignored in ("outside", "dropped")
    )
    assert kept["covering_level0_class"] == 0.5
    assert dropped["covering_level0_class"] == 1


def test_instances_of_background_are_background():
    """A label map without class names: numbers of objects, one of which is sky."""
    instances = np.array([[5, 5, 5, 7], [5, 5, 9, 9], [-1, -1, 9, 9]])
    levels = [np.where(CLASSES < 0, 3, CLASSES)]
    labels = {"class": CLASSES, "instance": instances}
    found = HierarchyScores().update(levels, labels, BACKGROUND).result()
    assert found["nfcovering_level0_instance"] == 1
    wrong = [np.where(CLASSES == 0, np.arange(12).reshape(3, 4), 50 + CLASSES)]
    found = HierarchyScores().update(wrong, labels, BACKGROUND).result()
    assert found["nfcovering_level0_instance"] == 1  # the sky alone is cut into pieces
    assert found["covering_level0_instance"] < 1


def test_records_of_halves_can_be_merged():
    rng = np.random.default_rng(0)
    images = [
        ([rng.integers(0, 5, (6, 7)) for _ in range(2)], {"class": rng.integers(-1, 3, (6, 7))})
        for _ in range(6)
    ]

    def of(some):
        record = HierarchyScores()
        for levels, labels in some:
            record = record.update(levels, labels, BACKGROUND)
        return record

    whole, merged = of(images).result(), of(images[:2]).merge(of(images[2:])).result()
    assert whole.keys() == merged.keys()
    np.testing.assert_allclose(list(merged.values()), list(whole.values()), rtol=1e-12)
    assert of([]).merge(of(images)).result() == whole
    assert of(images).merge(of([])).result() == whole
    with pytest.raises(ValueError, match="same levels"):
        of(images).merge(of([(images[0][0][:1], images[0][1])]))


def test_without_labels_groups_are_counted():
    record = HierarchyScores().update(LEVELS, {}, np.zeros(0, bool))
    assert record.result() == {"groups_level0": 12.0, "groups_level1": 2.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ignored": "counted"}, "ignored is 'counted'; it is one of outside, dropped"),
        ({"grouper": "kmean"}, "grouper is 'kmean'; it is one of"),
        ({"sizes": (4, 8)}, r"sizes are \(4, 8\) of 36 base segments"),
        ({"sizes": (40,)}, r"sizes are \(40,\) of 36"),
        ({"sizes": ()}, "at least one"),
        ({"rounds": 0}, "rounds 0"),
        ({"labels": ()}, "labels is empty"),
    ],
)
def test_values_out_of_range(fields, message):
    with pytest.raises(UserError, match=message):
        Hierarchy(**fields)
