"""COCO-Persons: the rule, the crops, the masks."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data import cocopersons
from jaxseg.data.cocopersons import open_cocopersons
from tests.data.layouts_coco import COUNTS, encode_runs, write_cocopersons, write_json


@pytest.fixture
def root(tmp_path):
    assert write_cocopersons(tmp_path) == {"test_split": "train"}
    return tmp_path


def test_the_list(root):
    source = open_cocopersons(str(root), "train")
    # Of the twelve images, the last three have too few, too many, no people.
    assert len(source) == COUNTS["train"]
    assert [source[i].name for i in (0, 8)] == [
        "train2017/000000005000.jpg",
        "train2017/000000005008.jpg",
    ]
    assert len(open_cocopersons(str(root), "train+val")) == sum(COUNTS.values())
    assert len(open_cocopersons(str(root), "train+val", count=2)) == 4
    assert len(open_cocopersons(str(root), "val", count=0)) == COUNTS["val"]


def test_stored_images(root):
    source = open_cocopersons(str(root), "train", side=0, check="headers")
    assert source.classes == {"class": ("rest", "person")}
    for index, extra in ((0, []), (1, range(60, 70))):
        example = source[index]
        assert example.image.shape == (60 + index, 80, 3)
        expected = np.zeros((60 + index, 80), np.int32)
        expected[:, 10:40] = 1
        expected[:, list(extra)] = 1  # a crowd counts
        np.testing.assert_array_equal(example.label["class"], expected)


def test_crops(root):
    example = open_cocopersons(str(root), "train")[0]
    assert example.image.shape == (128, 128, 3)
    # 60 x 80 becomes 128 x 170, of which columns 21 to 148 are kept.
    columns = (2 * np.arange(21, 149) + 1) * 80 // (2 * 170)
    expected = np.broadcast_to((columns >= 10) & (columns < 40), (128, 128))
    np.testing.assert_array_equal(example.label["class"], expected)
    small = open_cocopersons(str(root), "train", side=32)[0]
    assert small.image.shape == (32, 32, 3)
    with pytest.raises(UserError, match=r"data\.side is -1"):
        open_cocopersons(str(root), "train", side=-1)


def persons(root, *shares):
    """A data set with one image of 10 x 10 for each share of person pixels, in percent."""
    images, annotations = [], []
    for number, share in enumerate(shares, 1):
        name = f"{number:012d}.jpg"
        (root / "train2017").mkdir(exist_ok=True)
        Image.new("RGB", (10, 10)).save(root / "train2017" / name)
        images.append({"id": number, "file_name": name, "height": 10, "width": 10})
        mask = encode_runs((np.arange(100) < share).reshape(10, 10))
        annotations.append({"image_id": number, "category_id": 1, "segmentation": mask})
    content = {"images": images, "annotations": annotations}
    write_json(root / "annotations" / "instances_train2017.json", content)
    return str(root)


def test_the_bounds_are_kept(tmp_path):
    source = open_cocopersons(persons(tmp_path, 4, 5, 80, 81), "train", side=0)
    shares = [int(source[index].label["class"].sum()) for index in range(len(source))]
    assert shares == [5, 80]


def test_overlaps_count_once(tmp_path):
    root = persons(tmp_path, 60)
    path = tmp_path / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] *= 2
    write_json(path, content)
    assert len(open_cocopersons(root, "train")) == 1


def test_the_list_and_its_masks_are_kept(root, monkeypatch):
    first = open_cocopersons(str(root), "train")
    masks, names = sorted((root / "jaxseg-lists").iterdir())
    assert (masks.suffix, names.suffix) == (".json", ".txt")
    lines = names.read_text().splitlines()
    assert "our list" in lines[0]
    assert lines[2:] == [name.removeprefix("train2017/") for name in first.source.names]
    with monkeypatch.context() as patch:
        patch.setattr(cocopersons, "chosen", None)
        again = open_cocopersons(str(root), "train")
    assert again == first
    # Another annotation file: the list is computed again.
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 5000]
    write_json(path, content)
    assert len(open_cocopersons(str(root), "train")) == len(first) - 1


def test_messages(tmp_path):
    root = persons(tmp_path, 90)
    with pytest.raises(UserError, match=r"none of its 1 images with people is kept"):
        open_cocopersons(root, "train")
    path = tmp_path / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2]]
    write_json(path, content)
    with pytest.raises(UserError, match=r"train2017\.json: a mask of image 0+1\.jpg is damaged"):
        open_cocopersons(root, "train")
    content["annotations"][0]["image_id"] = 9
    write_json(path, content)
    with pytest.raises(UserError, match="annotates image 9, which it does not list"):
        open_cocopersons(root, "train")
    root = persons(tmp_path, 50)
    (tmp_path / "train2017" / "000000000001.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 1 files .*0001\.jpg.*data\.images"):
        open_cocopersons(root, "train")
    path.unlink()
    with pytest.raises(UserError, match=r"no annotations/instances_train2017\.json"):
        open_cocopersons(root, "train")


def test_real_people(real_data, tmp_path):
    """Instances made of real panoptic people give the labels of the panoptic maps."""
    folder = real_data("coco_panoptic")
    content = json.loads((folder / "panoptic_val.json").read_text())
    annotations, people = [], {}
    for record in content["annotations"]:
        with Image.open(folder / "semantic" / "val" / record["file_name"]) as png:
            person = np.asarray(png) == 1
        if person.any():
            people[record["image_id"]] = person
            fields = {"image_id": record["image_id"], "category_id": 1}
            annotations.append({**fields, "segmentation": encode_runs(person)})
    instances = {"images": content["images"], "annotations": annotations}
    write_json(tmp_path / "instances.json", instances)
    source = open_cocopersons(
        str(folder), "val", side=0, images="images/{split}",
        annotations=str(tmp_path / "instances.json"), lists_dir=str(tmp_path),
    )  # fmt: skip
    kept = [mask for _, mask in sorted(people.items()) if 0.05 <= mask.mean() <= 0.8]
    assert len(source) == len(kept) > 3
    for index, mask in enumerate(kept):
        np.testing.assert_array_equal(source[index].label["class"], mask)
