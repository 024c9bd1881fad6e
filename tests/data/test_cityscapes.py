"""Cityscapes: the label tables entry by entry, splits and their unions, the real files."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.cityscapes import (
    EXPECTED,
    IDS19,
    IDS27,
    LABELS,
    NAMES19,
    NAMES27,
    open_cityscapes19,
    open_cityscapes27,
)
from tests.data.layouts_scenes import write_cityscapes27


def test_the_tables_are_those_of_the_reference(label_maps):
    reference = label_maps["cityscapes"]
    assert list(NAMES27) == reference["names27"]
    assert list(NAMES19) == reference["names19"]
    for entry in reference["labels"]:
        # Of the id -1 an 8-bit file holds 255.
        stored = entry["id"] % 256
        assert IDS27.classes[stored] == entry["idx27"]
        assert IDS19.classes[stored] == entry["train_id19"]
        if entry["id"] >= 0:
            assert LABELS[entry["id"]] == (entry["name"], entry["idx27"], entry["train_id19"])
    assert len(LABELS) == len(reference["labels"]) - 1


def test_27_classes_are_ids_from_7_on():
    assert all(IDS27.classes[i] == (i - 7 if 7 <= i <= 33 else -1) for i in range(256))
    assert sorted(set(IDS19.classes.values())) == list(range(-1, 19))


def test_unions_keep_the_order_of_their_parts(tmp_path):
    write_cityscapes27(tmp_path)
    source = open_cityscapes27(str(tmp_path), "val+train")
    assert [name.split("/")[1] for name in source.names] == ["val"] * 3 + ["train"] * 3
    assert set(np.unique(source[0].label["class"])) > {-1, 0}
    for split in ("val+val", "val+", "train, val", "train extra", ""):
        with pytest.raises(UserError, match=r"Cityscapes has no split .*joined by '\+'"):
            open_cityscapes27(str(tmp_path), split)


def test_labels_of_test_and_train_extra_are_read_where_there_are_any(tmp_path):
    write_cityscapes27(tmp_path)
    source = open_cityscapes27(str(tmp_path), "test+train_extra")
    assert len(source) == 6
    assert [len(np.unique(source[i].label["class"])) > 1 for i in range(6)] == [
        False, False, False, True, True, False,
    ]  # fmt: skip
    for kind in ("gtCoarse", "gtFine"):
        (tmp_path / kind).rename(tmp_path / f"no_{kind}")
    source = open_cityscapes27(str(tmp_path), "test+train_extra")
    assert source.classes == {}
    assert source[0].label == {}
    with pytest.raises(
        UserError, match=r"3 of 3 images .*have no label under .*gtFine/train: aach"
    ):
        open_cityscapes27(str(tmp_path), "train")


def test_colour_files_are_not_taken_for_ids(tmp_path):
    write_cityscapes27(tmp_path)
    path = tmp_path / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    Image.new("RGB", (96, 48)).save(path)
    with pytest.raises(
        UserError, match=r"aachen_000000_000019_gtFine_labelIds\.png is a PNG of mo"
    ):
        open_cityscapes27(str(tmp_path), "train")[0]


def test_missing_folders_say_the_layout(tmp_path):
    with pytest.raises(UserError, match=r"no folder leftImg8bit/val in data\.root .*trainvaltest"):
        open_cityscapes19(str(tmp_path), "val")


def test_expected_unions_are_sums():
    for counts in EXPECTED.values():
        for split, count in counts.items():
            assert count == sum(counts[part] for part in split.split("+"))


def test_real_images(real_data):
    root = str(real_data("cityscapes_samples"))
    fine, coarse = open_cityscapes27(root, "train"), open_cityscapes19(root, "train")
    assert len(fine) == len(coarse) == 3
    for index in range(3):
        stored = np.asarray(Image.open(fine.labels[index])).astype(int)
        label = fine[index].label["class"]
        assert fine[index].image.shape == (1024, 2048, 3)
        np.testing.assert_array_equal(label, np.where(stored >= 7, stored - 7, -1))
        # The two protocols name every pixel alike, where the smaller one counts it.
        to_19 = np.array([*(LABELS[i][2] for i in range(7, 34)), -1], np.int32)
        np.testing.assert_array_equal(coarse[index].label["class"], to_19[label])
        assert (to_19[label] >= 0).mean() > 0.8


def test_real_labels_of_val_hold_known_ids(real_data):
    folder = real_data("cityscapes_samples") / "gtFine" / "val"
    paths = sorted(folder.rglob("*_labelIds.png"))
    assert len(paths) == 15
    seen = {value for path in paths for value in np.unique(IDS27(str(path))).tolist()}
    assert {-1, 0, 4, 14, 19} <= seen <= set(range(-1, 27))
