"""Vaihingen, crops of Potsdam, LoveDA and Dubai: layouts beside the common ones, real samples."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.aerial import (
    DUBAI_NAMES,
    EXPECTED,
    LOVEDA_NAMES,
    VAIHINGEN_TRAIN,
    open_dubai,
    open_loveda,
    open_potsdam_crops,
    open_vaihingen,
)
from jaxseg.data.potsdam import NAMES6
from tests.data.layouts_scenes import save, write_dubai, write_loveda, write_vaihingen


def test_areas_of_vaihingen(tmp_path):
    write_vaihingen(tmp_path)
    train = open_vaihingen(str(tmp_path), "train")
    test = open_vaihingen(str(tmp_path), "test")
    assert [name[-9:-4] for name in train.names] == ["area1", "area3", "area5"]
    assert [name[-9:-4] for name in test.names] == ["area2", "area4"]
    label = train[0].label["class"]
    (tmp_path / "gts_complete").rename(tmp_path / "elsewhere")
    again = open_vaihingen(str(tmp_path), "train")[0]
    np.testing.assert_array_equal(again.label["class"], label)
    assert open_vaihingen(str(tmp_path), "test").classes == {}
    assert len(VAIHINGEN_TRAIN) == EXPECTED["vaihingen"]["train"]


def test_scenes_of_loveda(tmp_path):
    write_loveda(tmp_path)
    source = open_loveda(str(tmp_path), "train+val")
    assert [name.split("/")[:2] for name in source.names[::2]] == [
        ["Train", "Rural"], ["Train", "Urban"], ["Val", "Rural"], ["Val", "Urban"],
    ]  # fmt: skip
    stored = np.asarray(Image.open(source.labels[0])).astype(int)
    np.testing.assert_array_equal(source[0].label["class"], stored - 1)
    test = open_loveda(str(tmp_path), "test")
    assert len(test) == 4
    assert test.classes == {}
    save(np.full((48, 48), 8, np.uint8), tmp_path / "Val" / "Urban" / "masks_png" / "110.png")
    with pytest.raises(UserError, match=r"110\.png holds the value 8, .*expected 0 to 7"):
        open_loveda(str(tmp_path), "val")[2]


def test_tiles_of_dubai_are_in_one_split(tmp_path):
    write_dubai(tmp_path)
    train, val = (open_dubai(str(tmp_path), split) for split in ("train", "val"))
    assert {name.split("/")[0] for name in train.names} == {"Tile 1", "Tile 2"}
    assert {name.split("/")[0] for name in val.names} == {"Tile 5", "Tile 6"}
    assert set(np.unique(train[0].label["class"])) == {-1, 0, 1, 2, 3, 4}
    save(np.zeros((3, 4, 3), np.uint8), tmp_path / "Tile 7" / "images" / "a.png")
    with pytest.raises(UserError, match=r"1 of 1 images under .*Tile 7/images have no label"):
        open_dubai(str(tmp_path), "val")


def test_real_dubai(real_data):
    root = str(real_data("aerial_dubai"))
    train, val = (open_dubai(root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (36, 18)
    assert train.classes == {"class": DUBAI_NAMES}
    seen = set()
    for index in (0, 20, 35):
        stored = np.asarray(Image.open(train.labels[index])).astype(int)
        label = train[index].label["class"]
        np.testing.assert_array_equal(label, np.where(stored < 5, stored, -1))
        seen |= set(np.unique(label).tolist())
    assert {0, 1, 2, 3, 4} <= seen


@pytest.mark.parametrize(
    ("open_source", "folder", "names", "shape"),
    [
        (open_potsdam_crops, "potsdam", NAMES6, (512, 512)),
        (open_vaihingen, "vaihingen", NAMES6, (512, 512)),
        (open_loveda, "loveda", LOVEDA_NAMES, (1024, 1024)),
    ],
)
def test_real_crops(real_data, open_source, folder, names, shape):
    source = open_source(str(real_data("aerial_samples") / folder), "all")
    assert len(source) == 1
    assert source.classes == {"class": names}
    example = source[0]
    assert example.image.shape == (*shape, 3)
    stored = np.asarray(Image.open(source.labels[0])).astype(int)
    # Each of the three counts from 1, and 0 is no class.
    np.testing.assert_array_equal(example.label["class"], stored - 1)
