"""Pascal VOC 2012: splits, the augmented set in both forms, objects, messages."""

import numpy as np
import pytest
import scipy.io

from jaxseg.core import UserError
from jaxseg.data.voc import CLASSES, open_voc12
from tests.data.layouts_coco import _voc_maps, write_png, write_voc12, write_voc12_sbd


@pytest.fixture
def png(tmp_path):
    assert write_voc12(tmp_path) == {"train_split": "trainaug"}
    return tmp_path


@pytest.fixture
def sbd(tmp_path):
    assert write_voc12_sbd(tmp_path) == {"train_split": "trainaug", "instances": True}
    return tmp_path


def ids(source):
    return [int(name[-10:-4]) for name in source.names]


def test_official_splits(png):
    for split, expected in (("train", range(4)), ("val", range(4, 7)), ("trainval", range(7))):
        source = open_voc12(str(png), split)
        assert ids(source) == list(expected)
        assert source.classes == {"class": CLASSES}
    example = open_voc12(str(png), "val")[1]
    label, _ = _voc_maps(5)
    expected = label.astype(np.int32)
    expected[expected == 255] = -1
    np.testing.assert_array_equal(example.label["class"], expected)
    assert example.label["class"].dtype == np.int32
    assert len(CLASSES) == 21


@pytest.mark.parametrize("form", ["png", "sbd"])
def test_the_augmented_set(form, request):
    """VOC's training images and the six others, without validation; borders where VOC has them."""
    source = open_voc12(str(request.getfixturevalue(form)), "trainaug")
    assert ids(source) == [*range(4), *range(7, 13)]
    for place, index in enumerate(ids(source)):
        label, _ = _voc_maps(index)
        expected = label.astype(np.int32)
        expected[expected == 255] = -1 if index < 4 else 0
        np.testing.assert_array_equal(source[place].label["class"], expected)


def test_a_list_of_the_augmented_set_comes_first(png):
    path = png / "ImageSets" / "Segmentation" / "trainaug.txt"
    path.write_text("\n2007_000009\n2007_000001\r\n2007_000009\n")
    assert ids(open_voc12(str(png), "trainaug")) == [9, 1]


@pytest.mark.parametrize("split", ["val", "trainaug"])
def test_objects(sbd, split):
    source = open_voc12(str(sbd), split, instances=True)
    assert source.classes["instance"] == ()
    for place, index in enumerate(ids(source)):
        _, objects = _voc_maps(index)
        expected = objects.astype(np.int32) - 1
        expected[objects == 255] = -1
        np.testing.assert_array_equal(source[place].label["instance"], expected)


def test_images_without_object_maps_are_ignored(png):
    source = open_voc12(str(png), "trainaug", instances=True)
    assert (source[0].label["instance"] >= 0).any()
    assert (source[9].label["instance"] == -1).all()


def test_damaged_mat_files(sbd):
    path = sbd / "benchmark_RELEASE" / "dataset" / "cls" / "2007_000008.mat"
    source = open_voc12(str(sbd), "trainaug")
    place = ids(source).index(8)
    for values, message in (
        (np.full((40, 50), 21, np.uint8), r"holds the value 21, in 2000 pixels"),
        (np.zeros((50, 40), np.uint8), r"is 50 x 40 and the image 40 x 50"),
        (np.zeros((40, 50)), r"float64\[40, 50\], expected integers"),
        (None, r"expected the MATLAB structure GTcls of SBD \(KeyError"),
    ):
        content = {"x": 1} if values is None else {"GTcls": {"Segmentation": values}}
        scipy.io.savemat(path, content)
        with pytest.raises(UserError, match=rf"2007_000008\..*{message}"):
            source[place]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"2007_000008\.mat.*data\.on_corrupt='skip'"):
        source[place]
    skipping = open_voc12(str(sbd), "trainaug", on_corrupt="skip")
    assert skipping[place].name.endswith("2007_000009.jpg")


def test_a_value_that_is_no_class(png):
    write_png(png / "SegmentationClass" / "2007_000004.png", np.full((40, 50), 21, np.uint8))
    with pytest.raises(UserError, match=r"000004\.png holds the value 21.*0 to 20, or 255"):
        open_voc12(str(png), "val")[0]


def test_messages(png):
    with pytest.raises(UserError, match=r"no JPEGImages nor .*VOCdevkit/VOC2012"):
        open_voc12(str(png / "ImageSets"), "train")
    with pytest.raises(UserError, match=r"no ImageSets/Segmentation/test\.txt in"):
        open_voc12(str(png), "test")
    lists = png / "ImageSets" / "Segmentation"
    (lists / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match=r"empty\.txt is empty"):
        open_voc12(str(png), "empty")
    (lists / "more.txt").write_text("2007_000000\n2007_000099\n2007_000008\n")
    with pytest.raises(UserError, match=r"1 of 3 listed images have no JPEGImages/<id>\.jpg .*99"):
        open_voc12(str(png), "more")
    (lists / "more.txt").write_text("2007_000000\n2007_000008\n")
    with pytest.raises(UserError, match=r"1 of 2 .* no SegmentationClass/<id>\.png in .*000008"):
        open_voc12(str(png), "more")
    with pytest.raises(UserError, match=r"neither none/<id>\.png nor .*benchmark\.tgz"):
        open_voc12(str(png), "trainaug", augmented="none")


def test_a_folder_without_permission(png, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    # Not with chmod: tests may run as root, who may do everything.
    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(UserError, match=r"cannot list .*JPEGImages: Permission denied"):
        open_voc12(str(png), "train")


def test_real_subset(real_data):
    root = str(real_data("voc12_subset"))
    for split, count in (("train", 100), ("val", 80)):
        source = open_voc12(root, split, lists="ImageSets")
        assert len(source) == count
        assert source.skipped == ()
        values = set()
        for index in range(0, count, 7):
            values |= set(np.unique(source[index].label["class"]).tolist())
        # Every image has an animal of one of five kinds.
        assert {-1, 0, 8, 10, 12, 13, 17} <= values <= set(range(-1, 21))
