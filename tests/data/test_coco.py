"""COCO-Stuff and COCO images alone: labels, lists, splits and messages."""

import os
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data import SOURCES, coco
from jaxseg.data.coco import open_coco, open_cocostuff, open_cocostuff3, open_cocostuff27
from tests.data.layouts_coco import COUNTS, stuff_map, write_cocostuff, write_photo, write_png

REAL = {"images": "images/{split}", "labels": "labels/{split}"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A layout that tests only read."""
    root = tmp_path_factory.mktemp("coco")
    assert write_cocostuff(root) == {}
    return str(root)


def one(root: pathlib.Path, label: np.ndarray) -> str:
    """A data set of one training image."""
    write_photo(root / "train2017" / "1.jpg", *label.shape, seed=0)
    write_png(root / "stuffthingmaps" / "train2017" / "1.png", label)
    return str(root)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("cocostuff27", (23, 22, 21, 9)),
        ("cocostuff15", (11, 10, 9, -1)),
        ("cocostuff3", (0, 1, 2, -1)),
        ("cocostuff182", (156, 123, 148, 0)),
        ("cocostuff171", (145, 112, 137, 0)),
    ],
)
def test_labels(shared, name, classes):
    source = SOURCES[name](shared, "val", val_list="all")
    assert len(source.classes["class"]) == int(name.removeprefix("cocostuff"))
    example = source[1]
    label = example.label["class"]
    assert label.dtype == np.int32
    assert example.image.shape == (*label.shape, 3) == (364, 372, 3)
    stored = stuff_map(364, 372)
    for value, expected in zip((156, 123, 148, 0, 255), (*classes, -1), strict=True):
        assert (label[stored == value] == expected).all()
    assert example.name == "val2017/000000003001.jpg"


@pytest.mark.parametrize("name", ["cocostuff27", "cocostuff15", "cocostuff3"])
def test_default_lists_and_both_splits(tmp_path, shared, name):
    source = SOURCES[name](shared, "train+val", lists_dir=str(tmp_path))
    kept = {split: count - 1 for split, count in COUNTS.items()}
    assert len(source) == sum(kept.values())
    folders = [path.split("/")[0] for path in source.names]
    assert folders == ["train2017"] * kept["train"] + ["val2017"] * kept["val"]
    # Labels stay with their images.
    assert {source[i].label["class"].shape[0] for i in range(kept["train"])} == {
        360 + 4 * i for i in range(kept["train"])
    }
    assert SOURCES[name](shared, "val", lists_dir=str(tmp_path)).names == source.names[-2:]


@pytest.mark.parametrize(
    ("height", "width", "stuff", "kept"),
    [
        (360, 360, 270, True),  # exactly three quarters
        (360, 360, 269, False),
        (359, 400, 400, False),
        (400, 359, 359, False),
    ],
)
def test_the_rule_counts_all_pixels(tmp_path, height, width, stuff, kept):
    label = np.full((height, width), 255, np.uint8)
    label[:, :stuff] = 156
    root = one(tmp_path, label)
    for opener in (open_cocostuff27, open_cocostuff3):
        if kept:
            assert len(opener(root, "train")) == 1
        else:
            with pytest.raises(UserError, match=r"keeps none of the 1 images.*_list='all'"):
                opener(root, "train")


def test_few_counts_three_superclasses_alone(tmp_path):
    root = one(tmp_path, np.full((360, 360), 154, np.uint8))  # sea
    assert len(open_cocostuff27(root, "train")) == 1
    with pytest.raises(UserError, match="few6"):
        open_cocostuff3(root, "train")


def test_a_list_is_computed_once_and_never_used_when_stale(tmp_path, monkeypatch):
    root = one(tmp_path, stuff_map(360, 360))
    assert len(open_cocostuff27(root, "train")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(coco, "read_label", None)
        assert len(open_cocostuff27(root, "train")) == 1
    path = tmp_path / "stuffthingmaps" / "train2017" / "1.png"
    write_png(path, stuff_map(360, 360, person=1.0))
    os.utime(path, (1, 1))
    with pytest.raises(UserError, match="keeps none"):
        open_cocostuff27(root, "train")


def test_a_list_of_the_user(tmp_path):
    write_cocostuff(tmp_path)
    # An image without a label, and a label without an image, that the list does not name.
    write_photo(tmp_path / "train2017" / "7.jpg", 10, 10, 0)
    (tmp_path / "train2017.txt").write_text("000000005003\n000000005001\n")
    source = open_cocostuff27(str(tmp_path), "train", train_list="{split}2017.txt")
    assert source.names == ("train2017/000000005001.jpg", "train2017/000000005003.jpg")
    (tmp_path / "val.txt").write_text("000000005001\n")
    with pytest.raises(UserError, match=r"data\.val_list .*val\.txt: 1 of its 1 names are not"):
        open_cocostuff27(str(tmp_path), "val", val_list="val.txt")
    with pytest.raises(UserError, match=r"data\.val_list is 'v7'.*no list file .*curated7, few6"):
        open_cocostuff27(str(tmp_path), "val", val_list="v7")


@pytest.mark.parametrize("value", [182, 254, 300])
def test_values_outside_the_map(tmp_path, value):
    label = stuff_map(20, 30).astype(np.uint16)
    label[3, 4] = value
    write_photo(tmp_path / "train2017" / "1.jpg", 20, 30, seed=0)
    path = tmp_path / "stuffthingmaps" / "train2017" / "1.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(label).save(path)
    source = open_cocostuff("182", str(tmp_path), "train")
    with pytest.raises(UserError, match=rf"1\.png holds values .*such as {value}, in 1 pixels"):
        source[0]


def test_missing_label_and_size_mismatch(tmp_path):
    root = one(tmp_path, stuff_map(20, 30))
    path = tmp_path / "stuffthingmaps" / "train2017" / "1.png"
    write_png(path, stuff_map(30, 20))
    source = open_cocostuff("27", root, "train")
    with pytest.raises(UserError, match=r"1\.jpg is 30 x 20 and the image 20 x 30"):
        source[0]
    with pytest.raises(UserError, match="30 x 20"):
        open_cocostuff("27", root, "train", check="headers")
    write_photo(tmp_path / "train2017" / "2.jpg", 20, 30, 0)
    with pytest.raises(UserError, match=r"1 of 2 images have no label .*2\.png.*data\.train_list"):
        open_cocostuff("27", root, "train")


def test_pixels_are_taken_as_they_are_stored(tmp_path):
    root = one(tmp_path, stuff_map(20, 30))
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "train2017" / "1.jpg", exif=exif)
    source = open_cocostuff("27", root, "train", check="headers")
    assert source[0].image.shape == (20, 30, 3)


def test_damaged_files_are_found_by_the_check_or_replaced(tmp_path):
    write_cocostuff(tmp_path)
    path = tmp_path / "train2017" / "000000005000.jpg"
    path.write_bytes(path.read_bytes()[:200])
    options = {"root": str(tmp_path), "split": "train", "train_list": "all"}
    with pytest.raises(UserError, match=r"1 of 9 images (.|\n)*5000\.jpg: damaged"):
        open_cocostuff27(**options, check="headers")
    with pytest.raises(UserError, match=r"5000\.jpg.*data\.on_corrupt"):
        open_cocostuff27(**options)[0]
    source = open_cocostuff27(**options, on_corrupt="skip", check="headers")
    assert source.skipped == ("train2017/000000005000.jpg",)
    assert source[0].name == "train2017/000000005001.jpg"
    assert (source[0].label["class"] == -1).all()
    with pytest.raises(UserError, match=r"data\.check is 'all'; expected one of headers, none"):
        open_cocostuff27(**options, check="all")
    with pytest.raises(UserError, match=r"data\.on_corrupt is 'no'"):
        open_cocostuff27(**options, on_corrupt="no")


def test_missing_folders_say_what_was_expected(tmp_path):
    for root, message in (
        ("", r"data\.root is empty"),
        (tmp_path / "none", "there is no folder data.root .*none"),
        (tmp_path, "no train2017 nor stuffthingmaps/train2017 in data.root"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            open_cocostuff27(str(root), "train")
    for part in ("train2017 (<id>.jpg)", "stuffthingmaps/train2017 (<id>.png)", "Unpack"):
        assert part in str(caught.value)
    (tmp_path / "train2017").mkdir()
    (tmp_path / "stuffthingmaps" / "train2017").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no images in .*train2017"):
        open_cocostuff27(str(tmp_path), "train")


@pytest.mark.parametrize("split", ["", "train+", "train+train", "test", "train2017"])
def test_wrong_splits(tmp_path, split):
    with pytest.raises(UserError, match="split"):
        open_cocostuff27(str(tmp_path), split)


def test_published_counts_are_compared_where_all_images_are_there():
    assert coco.count_difference("curated7", "train", 118_287, 49_629) == ""
    assert coco.count_difference("curated7", "val", 4_999, 2_000) == ""
    assert coco.count_difference("few6", "val", 5_000, 1) == ""
    message = coco.count_difference("curated7", "val", 5_000, 2_170)
    assert "2,170 of 5,000" in message
    assert "2,175 are published (-5)" in message


def test_images_alone(shared):
    source = open_coco(shared, "train+val")
    assert len(source) == sum(COUNTS.values())
    assert source.classes == source[0].label == {}
    with pytest.raises(UserError, match="no unlabeled2017 in"):
        open_coco(shared, "unlabeled")


def test_a_copy_in_another_process_reads_the_same(shared):
    source = open_cocostuff27(shared, "val", val_list="all")
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[0].label["class"], source[0].label["class"])


def test_real_maps(real_data, tmp_path):
    root = str(real_data("coco_stuff"))
    every = {"train_list": "all", "val_list": "all", "check": "headers"}
    source = open_cocostuff27(root, "train+val", **REAL, **every)
    assert len(source) == 21
    for index in (0, 10, 20):
        assert -1 <= source[index].label["class"].min() < source[index].label["class"].max() < 27
    # Of these 21 images, by the rule: counted with NumPy from the PNGs.
    lists = {"lists_dir": str(tmp_path)}
    kept = open_cocostuff27(root, "train+val", **REAL, **lists)
    stuff = []
    for index in range(21):
        label = source[index].label["class"]
        if min(label.shape) >= 360 and (label >= 12).mean() >= 0.75:
            stuff.append(source.names[index])
    assert list(kept.names) == stuff
    assert len(kept) == 8
