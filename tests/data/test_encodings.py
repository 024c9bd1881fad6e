"""How labels are written: ids, red channels and colours, and what is no label."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.encodings import Colours, Ids, RedIds, look_up


def save(path, array, mode=None):
    Image.fromarray(np.asarray(array), mode).save(path)
    return str(path)


def test_ids_go_through_the_table(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 7, 255], [7, 0, 7]], np.uint8))
    label = Ids({0: -1, 7: 3, 255: -1})(path)
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, [[-1, 3, -1], [3, -1, 3]])


def test_palette_and_16_bit_ids(tmp_path):
    palette = Image.fromarray(np.array([[1, 0]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(Ids({0: 0, 1: 5})(str(tmp_path / "p.png")), [[5, 0]])
    path = save(tmp_path / "deep.png", np.array([[26001, 300]], np.uint16))
    np.testing.assert_array_equal(Ids({26001: 1, 300: 0})(path), [[1, 0]])


def test_an_unknown_id_is_named_with_what_is_expected(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 40, 40, 41]], np.uint8))
    expected = r"a\.png holds the value 40, in 2 pixels; expected 0 to 2, 5, 7 to 8\. Check"
    with pytest.raises(UserError, match=expected):
        Ids(dict.fromkeys((0, 1, 2, 5, 7, 8), 0))(path)


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_values_beyond_16_bits_are_looked_up_too(value):
    stored = np.array([[0, value]], np.int32)
    np.testing.assert_array_equal(look_up(stored, {0: 4, value: -1}, "a"), [[4, -1]])
    with pytest.raises(UserError, match=f"a holds the value {value}, in 1 pixels; expected 0"):
        look_up(stored, {0: 4, 65535: 3}, "a")


def test_red_ids_leave_the_instance_aside(tmp_path):
    panoptic = np.array([[[13, 1, 44], [255, 0, 0]], [[0, 255, 255], [13, 0, 1]]], np.uint8)
    path = save(tmp_path / "a.png", panoptic)
    label = RedIds({0: 0, 13: 13, 255: -1})(path)
    np.testing.assert_array_equal(label, [[13, -1], [0, 13]])
    assert label.dtype == np.int32
    with pytest.raises(UserError, match=r"holds the value 255, in 1 pixels; expected 0, 13"):
        RedIds({0: 0, 13: 13})(path)


COLOURS = {(255, 0, 0): 0, (0, 0, 255): 1, (0, 0, 0): -1}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_are_classes(tmp_path, name):
    painted = np.array([[[255, 0, 0], [0, 0, 255], [0, 0, 0]]], np.uint8)
    label = Colours(COLOURS)(save(tmp_path / name, painted))
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, [[0, 1, -1]])


def test_colours_that_are_slightly_off_are_the_nearest(tmp_path):
    painted = np.array([[[252, 3, 0], [8, 8, 247], [0, 0, 255]]], np.uint8)
    path = save(tmp_path / "a.png", painted)
    np.testing.assert_array_equal(Colours(COLOURS)(path), [[0, 1, 1]])


def test_another_colour_is_named(tmp_path):
    painted = np.zeros((4, 4, 3), np.uint8)
    painted[1, :3] = (128, 0, 128)
    with pytest.raises(
        UserError, match=r"a\.png holds the colour \(128, 0, 128\), in 3 pixels; exp"
    ):
        Colours(COLOURS)(save(tmp_path / "a.png", painted))


def test_lossy_labels_are_refused(tmp_path):
    path = save(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.uint8))
    for read in (Colours(COLOURS), RedIds({0: 0})):
        with pytest.raises(UserError, match=r"a\.jpg is no PNG or TIFF"):
            read(path)
