"""BSDS500: segmentations of several people, and that no method sees them."""

import numpy as np
import pytest
import scipy.io

from jaxseg.core import UserError
from jaxseg.data.bsds500 import EXPECTED, open_bsds500, read_segmentations
from jaxseg.data.images import Unreadable
from tests.data.layouts_scenes import write_bsds500


def test_segmentations_are_not_part_of_an_example(tmp_path):
    write_bsds500(tmp_path)
    source = open_bsds500(str(tmp_path), "train+val")
    assert len(source) == 5
    assert source.classes == {}
    example = source[0]
    assert example.label == {}
    assert example.regions is None
    first, second = source.segmentations(0)
    assert first.dtype == np.int32
    assert first.shape == example.image.shape[:2]
    assert first.min() == 1
    assert first.max() == 5
    np.testing.assert_array_equal(second, (first + 1) // 2)


def test_what_is_no_ground_truth_is_named(tmp_path):
    with pytest.raises(Unreadable, match=r"cannot read ground truth .*none\.mat"):
        read_segmentations(tmp_path / "none.mat")
    (tmp_path / "bad.mat").write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(Unreadable, match=r"cannot read ground truth .*bad\.mat"):
        read_segmentations(tmp_path / "bad.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"ucm2": np.zeros((3, 3))})
    with pytest.raises(
        UserError, match=r"other\.mat holds ucm2; expected the variable groundTruth"
    ):
        read_segmentations(tmp_path / "other.mat")
    for index, shapes in enumerate(([], [(3, 4), (4, 3)])):
        cell = np.empty((1, len(shapes)), object)
        for number, shape in enumerate(shapes):
            cell[0, number] = {"Segmentation": np.ones(shape, np.uint16)}
        path = tmp_path / f"{index}.mat"
        scipy.io.savemat(path, {"groundTruth": cell})
        with pytest.raises(UserError, match=r"\.mat holds segmentations of shapes \["):
            read_segmentations(path)


def test_real_splits(real_data):
    root = str(real_data("bsds500"))
    counted = {"train": 1087, "val": 546, "test": 1063}  # annotations, as the manifest counts them
    for split, expected in EXPECTED["bsds500"].items():
        source = open_bsds500(root, split)
        assert len(source) == expected
        assert source.skipped == ()
        step = 1 if split == "val" else 40
        found = [source.segmentations(index) for index in range(0, len(source), step)]
        assert all(4 <= len(one) <= 9 for one in found)
        assert all(one.min() == 1 for maps in found for one in maps)
        if split == "val":
            assert sum(map(len, found)) == counted["val"]
        for index in (0, expected - 1):
            assert source.segmentations(index)[0].shape == source[index].image.shape[:2]
