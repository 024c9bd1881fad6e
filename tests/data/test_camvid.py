"""CamVid: the layout, and the real files where they are."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.camvid import CLASSES, open_camvid


@pytest.fixture
def small(tmp_path):
    """A data set of one image whose label holds every legal value."""
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").mkdir(parents=True)
    Image.new("RGB", (12, 1), (1, 2, 3)).save(tmp_path / "images" / "train" / "f_1.png")
    ids = np.arange(12, dtype=np.uint8)[None]
    Image.fromarray(ids).save(tmp_path / "labels" / "train" / "f_1.png")
    return tmp_path


def test_void_is_ignored_and_the_rest_kept(small):
    source = open_camvid(str(small), "train")
    assert source.classes == {"class": CLASSES}
    assert len(CLASSES) == 11
    np.testing.assert_array_equal(source[0].label["class"], [[*range(11), -1]])


@pytest.mark.parametrize("value", [12, 255])
def test_other_values_are_an_error(small, value):
    path = small / "labels" / "train" / "f_1.png"
    Image.fromarray(np.full((1, 12), value, np.uint8)).save(path)
    source = open_camvid(str(small), "train")
    with pytest.raises(UserError, match=rf"f_1\.png holds the value {value}.*0 to 10, or 11"):
        source[0]


def test_missing_folders_say_the_layout(small):
    for root, split in ((small / "nowhere", "train"), (small, "val"), (small, "")):
        with pytest.raises(UserError, match=r"data\.root .*images/<split>/<id>\.jpg.*train, val"):
            open_camvid(str(root), split)


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_real_splits(real_data, split, count):
    source = open_camvid(str(real_data("camvid")), split)
    assert len(source) == count
    assert source.skipped == ()
    for index in (0, count // 2, count - 1):
        example = source[index]
        label = example.label["class"]
        assert example.image.shape == (360, 480, 3)
        assert label.shape == (360, 480)
        # Every frame shows road (3) and has unlabelled pixels.
        assert {-1, 3} <= set(np.unique(label)) <= set(range(-1, 11))
