"""COCO panoptic: merges, segments, crowds and messages."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.coco import open_cocostuff27
from jaxseg.data.coco_classes import COARSE
from jaxseg.data.coco_panoptic import open_coco_panoptic
from tests.data.layouts_coco import COUNTS, write_coco_panoptic, write_png

REAL = {
    "images": "images/{split}",
    "labels": "panoptic/{split}",
    "annotations": "panoptic_{split}.json",
}


@pytest.fixture
def root(tmp_path):
    assert write_coco_panoptic(tmp_path) == {}
    return tmp_path


def expected(sky, cardboard, car, person):
    """The map of the first image of the fixture."""
    label = np.full((32, 40), sky, np.int32)
    label[16:] = cardboard
    label[10:20, 5:15] = car
    label[10:20, 20:30] = person
    label[-1] = -1
    return label


def test_labels(root):
    source = open_coco_panoptic(str(root), "train+val", check="headers")
    assert len(source) == sum(COUNTS.values())
    assert source.classes == {"class": COARSE, "instance": ()}
    names = ("sky-stuff", "rawmaterial-stuff", "vehicle-things", "person-things")
    example = source[0]
    np.testing.assert_array_equal(
        example.label["class"], expected(*(COARSE.index(name) for name in names))
    )
    # In the order of the annotation file, the crowd left out.
    np.testing.assert_array_equal(example.label["instance"], expected(2, 1, 0, -1))
    assert {array.dtype for array in example.label.values()} == {np.dtype(np.int32)}
    assert source[COUNTS["train"]].name == "val2017/000000003000.jpg"


def test_all_categories(root):
    source = open_coco_panoptic(str(root), "val", merge="none")
    assert source.classes["class"][2:4] == ("cardboard", "door-stuff")
    np.testing.assert_array_equal(source[0].label["class"], expected(4, 2, 1, 0))
    with pytest.raises(UserError, match=r"data\.merge is '27'; expected one of coarse27, none"):
        open_coco_panoptic(str(root), "val", merge="27")


def edit(root, change):
    path = root / "annotations" / "panoptic_val2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_segment_without_a_record(root):
    edit(root, lambda content: content["annotations"][1]["segments_info"].pop(1))
    source = open_coco_panoptic(str(root), "val")
    assert (source[0].label["class"] >= 0).any()
    with pytest.raises(UserError, match=r"003001\.png has the segment 8, of which .*val2017\.json"):
        source[1]


def test_an_image_without_any_segment(root):
    edit(root, lambda content: content["annotations"][0].update(segments_info=[]))
    path = root / "annotations" / "panoptic_val2017" / "000000003000.png"
    write_png(path, np.zeros((32, 40, 3), np.uint8))
    label = open_coco_panoptic(str(root), "val")[0].label
    assert all((array == -1).all() for array in label.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations"), "has no list 'annotations'"),
        (lambda c: c["images"][1].pop("file_name"), r"images\[1\] has no 'file_name'"),
        (lambda c: c["images"].pop(0), "image 3000 names 3000, which the file does not describe"),
        (lambda c: c["categories"].pop(0), "image 3000 names 1, which"),
        (lambda c: c["annotations"].clear(), "annotates no image"),
        (lambda c: c["annotations"][0].update(segments_info=3), "image 3000 is no panoptic one"),
        (lambda c: c["categories"][0].update(supercategory="x"), "'x' of 'person' is none"),
    ],
)
def test_wrong_annotation_files(root, change, message):
    edit(root, change)
    with pytest.raises(UserError, match=rf"panoptic_val2017\.json.*{message}"):
        open_coco_panoptic(str(root), "val")


def test_truncated_json(root):
    path = root / "annotations" / "panoptic_val2017.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(UserError, match=r"val2017\.json \(500 bytes\) is damaged or truncated"):
        open_coco_panoptic(str(root), "val")
    path.write_text("[]")
    with pytest.raises(UserError, match="has no list"):
        open_coco_panoptic(str(root), "val")


def test_different_categories_in_two_splits(root):
    edit(root, lambda content: content["categories"].pop(3))
    open_coco_panoptic(str(root), "train+val")
    with pytest.raises(UserError, match="different categories"):
        open_coco_panoptic(str(root), "train+val", merge="none")


def test_missing_files(root, tmp_path):
    (root / "val2017" / "000000003001.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 6 files .*val2017/000000003001\.jpg"):
        open_coco_panoptic(str(root), "val")
    (root / "annotations" / "panoptic_val2017.json").unlink()
    with pytest.raises(UserError, match=r"no annotations/panoptic_val2017\.json in .*Expected"):
        open_coco_panoptic(str(root), "val")


def test_a_png_that_lost_its_colours(root):
    path = root / "annotations" / "panoptic_val2017" / "000000003000.png"
    Image.open(path).convert("L").save(path)
    with pytest.raises(UserError, match="has the segment"):
        open_coco_panoptic(str(root), "val")[0]


def test_real_labels(real_data):
    """The semantic PNGs beside the real panoptic ones hold the categories, made independently."""
    folder = real_data("coco_panoptic")
    source = open_coco_panoptic(str(folder), "train+val", merge="none", check="headers", **REAL)
    assert len(source) == 100
    assert len(source.classes["class"]) == 133
    categories = json.loads((folder / "panoptic_val.json").read_text())["categories"]
    ids = np.array([*sorted(category["id"] for category in categories), 0])
    for index in range(0, 100, 9):
        example = source[index]
        with Image.open(folder / "semantic" / example.name[7:].replace(".jpg", ".png")) as png:
            np.testing.assert_array_equal(ids[example.label["class"]], np.asarray(png))


def test_real_labels_agree_with_those_of_coco_stuff(real_data):
    """Eight images are in both sets; the 27 classes differ only by what panoptic COCO merged."""
    panoptic = open_coco_panoptic(str(real_data("coco_panoptic")), "val", **REAL)
    stuff = open_cocostuff27(
        str(real_data("coco_stuff")), "val", val_list="all",
        images="images/{split}", labels="labels/{split}",
    )  # fmt: skip
    # Fog (water) became sky, stone floors pavement (ground), carpets rugs (textile).
    merged = {("water", "sky"), ("floor", "ground"), ("floor", "textile")}
    pairs = {(COARSE.index(f"{a}-stuff"), COARSE.index(f"{b}-stuff")) for a, b in merged}
    place = {name: index for index, name in enumerate(panoptic.names)}
    shared = [(index, place[name]) for index, name in enumerate(stuff.names) if name in place]
    assert len(shared) == 8
    for ours, theirs in shared:
        a, b = stuff[ours].label["class"], panoptic[theirs].label["class"]
        differ = (a >= 0) & (b >= 0) & (a != b)
        assert differ.mean() < 0.2
        assert set(zip(a[differ].tolist(), b[differ].tolist(), strict=True)) <= pairs
