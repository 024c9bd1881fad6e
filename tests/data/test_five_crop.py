"""Five-crop: corners and centre of each image, with its maps."""

import dataclasses

import cloudpickle
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.data.five_crop import FiveCrop
from jaxseg.data.scenes import Scenes
from jaxseg.data.source import Example


@dataclasses.dataclass(frozen=True)
class Placed:
    """Images whose pixels hold their row, column and number; counts what is read."""

    shapes: tuple = ((5, 7), (4, 6), (6, 9))
    reads: list = dataclasses.field(default_factory=list, compare=False)
    names = ("a", "b", "c")
    skipped = ("broken",)
    classes = {"class": ("one", "two")}  # noqa: RUF012

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        self.reads.append(index)
        rows, columns = np.indices(self.shapes[index])
        image = np.stack([rows, columns, np.full_like(rows, index)], -1).astype(np.uint8)
        place = (rows * 100 + columns).astype(np.int32)
        return Example(image, {"class": place}, place + 1, self.names[index])


def test_crops_are_the_corners_and_the_centre():
    crops = [FiveCrop(Placed())[index] for index in range(5)]
    # 5 x 7: halves 2 x 3. The centre's corner: round(1.5) = 2 and round(2) = 2.
    corners = [(0, 0), (0, 4), (3, 0), (3, 4), (2, 2)]
    for (y, x), crop in zip(corners, crops, strict=True):
        assert crop.image.shape == (2, 3, 3)
        np.testing.assert_array_equal(crop.image[..., 0], np.indices((2, 3))[0] + y)
        np.testing.assert_array_equal(crop.image[..., 1], np.indices((2, 3))[1] + x)


def test_the_centre_is_that_of_torchvision():
    # (side - side // 2) / 2, halves to even: 9 -> 2.5 -> 2; 11 -> 3; 5 -> 1.5 -> 2; 7 -> 2.
    for side, start in ((9, 2), (11, 3), (5, 2), (7, 2), (8, 2), (6, 2), (3, 1), (2, 0)):
        crop = FiveCrop(Placed(((side, 4),)))[4]
        assert crop.image[0, 0, 0] == start, side
        assert len(crop.image) == side // 2


def test_index_order_maps_and_names():
    source = FiveCrop(Placed())
    assert len(source) == 15
    for index in (0, 4, 5, 9, 14, -1):
        crop = source[index]
        place = crop.image[..., 0].astype(int) * 100 + crop.image[..., 1]
        assert (crop.image[..., 2] == (index % 15) // 5).all()
        np.testing.assert_array_equal(crop.label["class"], place)
        np.testing.assert_array_equal(crop.regions, place + 1)
        assert crop.label["class"].dtype == crop.regions.dtype == np.int32
        assert crop.name == source.names[index]
        assert crop.image.base is None  # no whole image is kept alive by a crop
    assert source.names[6] == "b (top-right)"
    assert source.classes == Placed.classes
    assert source.skipped == ("broken",)
    with pytest.raises(IndexError):
        source[15]


def test_an_image_is_read_once_for_its_crops():
    source = FiveCrop(Placed())
    for index in (*range(10), 0):
        source[index]
    assert source.source.reads == [0, 1, 0]


def test_what_a_thread_keeps_does_not_travel():
    source = FiveCrop(Scenes(size=32, count=2))
    first = source[3].image
    sent = cloudpickle.loads(cloudpickle.dumps(source))
    assert not vars(sent._last)
    assert sent == source
    np.testing.assert_array_equal(sent[3].image, first)


def test_an_image_without_a_half():
    with pytest.raises(UserError, match=r"image a is 1x4 .* no half; remove it"):
        FiveCrop(Placed(((1, 4),)))[0]
