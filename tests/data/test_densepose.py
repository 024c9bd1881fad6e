"""DensePose-COCO: parts painted where their boxes are."""

import json

import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.data.densepose import GROUPS, PARTS, open_densepose
from tests.data.layouts_coco import encode_runs, write_densepose


@pytest.fixture
def root(tmp_path):
    assert write_densepose(tmp_path) == {"train_split": "train", "test_split": "minival"}
    return tmp_path


def edit(root, change):
    path = root / "annotations" / "densepose_coco_2014_minival.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_labels(root):
    source = open_densepose(str(root), "train+minival", check="headers")
    assert len(source) == 12
    assert source.classes["part"] == GROUPS == ("head", "torso", "upper limb", "lower limb")
    assert source.classes["class"] == ("person",)
    for index in (0, 11):
        label = source[index].label
        # The box has 32 rows from row 8 on: a quarter head, three eighths torso and legs each.
        expected = np.full((48, 64), -1, np.int32)
        expected[8:16, 8:24], expected[16:28, 8:24], expected[28:40, 8:24] = 0, 1, 3
        np.testing.assert_array_equal(label["part"], expected)
        np.testing.assert_array_equal(label["class"], np.minimum(expected, 0))
        np.testing.assert_array_equal(label["instance"], np.minimum(expected, 0))
        assert {array.dtype for array in label.values()} == {np.dtype(np.int32)}


def test_every_part_has_its_group():
    assert list(PARTS).index("head") == 13
    assert set(PARTS.values()) == set(GROUPS)


def test_images_of_2017_serve_as_well(root):
    (root / "val2014").rename(root / "val2017")
    for path in list((root / "val2017").iterdir()):
        path.rename(path.with_name(path.name.removeprefix("COCO_val2014_")))
    source = open_densepose(str(root), "minival")
    assert source.names[0] == "val2017/000000007000.jpg"
    assert (source[0].label["part"] >= 0).any()


def test_boxes_at_odd_places(root):
    """Each pixel takes the mask at its centre; a box may reach out of the image."""
    mask = np.zeros((256, 256), bool)
    mask[:, 128:] = True

    def change(content):
        masks = [[] for _ in range(14)]
        masks[1] = encode_runs(mask, compressed=False)
        content["annotations"][0].update(bbox=[-10.25, 40.5, 30.5, 20.0], dp_masks=masks)

    edit(root, change)
    label = open_densepose(str(root), "minival")[0].label["part"]
    expected = np.full((48, 64), -1, np.int32)
    # The middle of the box is at x = 5, its right side at 20.25; the first centre in it, y = 40.5.
    expected[40:, 5:20] = GROUPS.index("upper limb")
    np.testing.assert_array_equal(label, expected)


def test_the_later_person_is_seen(root):
    def change(content):
        later = {**content["annotations"][0], "bbox": [16.0, 8.0, 16.0, 32.0]}
        content["annotations"].append(later)

    edit(root, change)
    label = open_densepose(str(root), "minival")[0].label
    assert set(np.unique(label["instance"][8:40, 8:16])) == {0}
    assert set(np.unique(label["instance"][8:40, 16:32])) == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(dp_masks=a["dp_masks"][:13]), "13 parts in place of 14"),
        (lambda a: a["dp_masks"][0].update(size=[256, 255]), "runs of 65536 pixels"),
        (lambda a: a["dp_masks"].__setitem__(0, "text"), "damaged"),
        (lambda a: a.update(bbox=[0, 0, 0, 9]), "a box that starts at 0 and is 0 long"),
        (lambda a: a.update(bbox=[0, 0, 9]), "damaged"),
        (lambda a: a.update(bbox=[None, 0, 9, 9]), "damaged"),
    ],
)
def test_damaged_masks(root, change, message):
    edit(root, lambda content: change(content["annotations"][0]))
    source = open_densepose(str(root), "minival")
    with pytest.raises(UserError, match=rf"007000\.jpg: the masks of person 0.*{message}"):
        source[0]


def test_messages(root):
    with pytest.raises(UserError, match=r"no annotations/densepose_coco_2014_val\.json.*minival"):
        open_densepose(str(root), "val")
    (root / "val2014" / "COCO_val2014_000000007001.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 3 images are in none of .*7001\.jpg"):
        open_densepose(str(root), "minival")
    edit(root, lambda content: content["images"].pop(0))
    with pytest.raises(UserError, match=r"masks \(dp_masks\) of 3 images and describes 2"):
        open_densepose(str(root), "minival")
    edit(root, lambda content: [a.pop("dp_masks", 0) for a in content["annotations"]])
    with pytest.raises(UserError, match=r"of 0 images"):
        open_densepose(str(root), "minival")
