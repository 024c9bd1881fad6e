"""Folders of photographs: order, labels, lists, damage, messages."""

import dataclasses
import os
import pickle
import unicodedata

import numpy as np
import pytest
from absl import logging
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.folder import Folder, open_folder

NAMES = ("background", "cat", "dog")


def photo(path, value=0, shape=(6, 8)):
    """Writes an image of one grey value, so that a test can tell which file was read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(path)


def label(path, value=1, shape=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def values(source):
    """Returns the grey value of every image."""
    return [int(source[index].image.mean().round()) for index in range(len(source))]


@pytest.fixture
def warnings(monkeypatch):
    """Collects what is logged as a warning."""
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: lines.append(text % args))
    return lines


@pytest.fixture
def damaged(tmp_path):
    """Five images of which 1 is empty and 3 stops short."""
    for index in range(5):
        photo(tmp_path / f"{index}.png", 40 * index)
    (tmp_path / "1.png").write_bytes(b"")
    content = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(content[: len(content) // 2])
    return tmp_path


def decode_failure(path):
    """Damages a PNG in the middle, so that its header and its end are sound."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 600] = bytes(600)
    path.write_bytes(bytes(content))


def test_all_suffixes_in_the_order_of_their_names(tmp_path, monkeypatch):
    for index, name in enumerate(("b/z.JPG", "a.png", "b/ä.webp", "c.TIFF", "b/a.jpeg", "d.tif")):
        photo(tmp_path / name, 30 * index)
    (tmp_path / "notes.txt").write_text("no image")
    expected = ("a.png", "b/a.jpeg", "b/z.JPG", "b/ä.webp", "c.TIFF", "d.tif")
    source = open_folder(str(tmp_path))
    assert source.names == expected
    assert source.classes == {}
    np.testing.assert_allclose(values(source), [30, 120, 0, 60, 90, 150], atol=1)
    assert [example.name for example in map(source.__getitem__, range(6))] == list(expected)

    class Backwards:
        """Lists a folder in another order, as another file system would."""

        def __init__(self, path):
            with original(path) as listing:
                self.entries = sorted(listing, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    original = os.scandir
    monkeypatch.setattr(os, "scandir", Backwards)
    assert open_folder(str(tmp_path)).names == expected


def test_indices_are_those_of_a_sequence(tmp_path):
    photo(tmp_path / "a.png", 10)
    photo(tmp_path / "b.png", 20)
    source = open_folder(str(tmp_path))
    assert source[-1].name == "b.png"
    with pytest.raises(IndexError):
        source[2]


def test_home_is_expanded(tmp_path, monkeypatch):
    photo(tmp_path / "photos" / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_folder("~/photos").names == ("a.png",)


def test_missing_root_file_root_and_empty_root(tmp_path):
    with pytest.raises(UserError, match=r"data\.root: there is no folder .*nowhere"):
        open_folder(str(tmp_path / "nowhere"))
    photo(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is a file; expected a folder"):
        open_folder(str(tmp_path / "a.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no images under .*empty.*\.jpg, \.jpeg, .*data\.root"):
        open_folder(str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"data\.images: there is no folder .*pictures"):
        open_folder(str(tmp_path), images="pictures")
    with pytest.raises(UserError, match=r"data\.root is empty"):
        open_folder("")


def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **options: False)
    with pytest.raises(UserError, match=r"no permission to list .*chmod u\+rx"):
        open_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_corrupt": "ignore"}, "'ignore'; expected 'error' or 'skip'"),
        ({"channels": 1}, r"data\.channels is 1"),
        ({"labels": "labels"}, r"data\.class_names is empty; name the classes"),
        ({"labels": ".", "class_names": NAMES}, r"data\.labels is the folder of the images"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, message):
    photo(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        open_folder(str(tmp_path), **options)


def test_four_channels(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    Image.fromarray(bands).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_folder(str(tmp_path), channels=4)[0].image, bands)


def test_label_folder_mirrors_the_tree(tmp_path):
    photo(tmp_path / "street" / "a.jpg")
    photo(tmp_path / "b.png")
    label(tmp_path / "labels" / "street" / "a.png", 2)
    label(tmp_path / "labels" / "b.png", 255)
    source = open_folder(str(tmp_path), labels="labels", class_names=NAMES)
    assert source.names == ("b.png", "street/a.jpg")  # the label folder holds no images
    assert source.classes == {"class": NAMES}
    assert source[0].label["class"].dtype == np.int32
    np.testing.assert_array_equal(source[0].label["class"], np.full((6, 8), -1))
    np.testing.assert_array_equal(source[1].label["class"], np.full((6, 8), 2))


def test_missing_labels_of_a_label_folder_are_listed(tmp_path):
    for index in range(8):
        photo(tmp_path / "images" / f"{index}.png")
    label(tmp_path / "labels" / "0.png")
    with pytest.raises(UserError, match=r"7 of 8 images have no label .*5\.png and 2 more\. Add"):
        open_folder(str(tmp_path), images="images", labels="labels", class_names=NAMES)


def test_labels_beside_the_images(tmp_path, warnings):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    label(tmp_path / "b_label.PNG", 2)
    source = open_folder(str(tmp_path), class_names=NAMES)
    assert source.names == ("a.jpg", "b.jpg")
    assert any("1 of 2 images have no label" in line for line in warnings)
    np.testing.assert_array_equal(source[0].label["class"], np.full((6, 8), -1))
    np.testing.assert_array_equal(source[1].label["class"], np.full((6, 8), 2))


def test_labels_beside_the_images_need_class_names(tmp_path, warnings):
    photo(tmp_path / "a.jpg")
    label(tmp_path / "a_label.png")
    source = open_folder(str(tmp_path))
    assert source.classes == {}
    assert source[0].label == {}
    assert any("1 files *_label.png are not read" in line for line in warnings)


def test_only_labels_is_an_empty_folder(tmp_path):
    label(tmp_path / "a_label.png")
    with pytest.raises(UserError, match=r"no images .*1 files \*_label\.png are labels"):
        open_folder(str(tmp_path))


def test_a_source_without_classes_reads_no_labels(tmp_path):
    photo(tmp_path / "a.jpg")
    label(tmp_path / "a_label.png", 200)
    source = open_folder(str(tmp_path), class_names=NAMES)
    assert dataclasses.replace(source, classes={})[0].label == {}
    with pytest.raises(UserError, match=r"a_label\.png holds the value 200.*expected 0 to 2"):
        source[0]


@pytest.mark.parametrize("on_corrupt", ["error", "skip"])
def test_sizes_that_differ_are_found_before_training(tmp_path, on_corrupt):
    photo(tmp_path / "a.jpg", shape=(6, 8))
    label(tmp_path / "a_label.png", shape=(8, 6))
    with pytest.raises(UserError, match=r"a_label\.png is 8 x 6 and its image .*a\.jpg is 6 x 8"):
        open_folder(str(tmp_path), class_names=NAMES, on_corrupt=on_corrupt)


def test_sizes_that_differ_are_found_when_reading(tmp_path):
    photo(tmp_path / "a.jpg")
    label(tmp_path / "a_label.png")
    source = open_folder(str(tmp_path), class_names=NAMES)
    label(tmp_path / "a_label.png", shape=(3, 4))
    with pytest.raises(UserError, match=r"a_label\.png is 3 x 4"):
        source[0]


def test_rotated_photo_with_an_upright_label(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    label(tmp_path / "a_label.png", 1, shape=(8, 6))
    example = open_folder(str(tmp_path), class_names=NAMES)[0]
    assert example.image.shape == (8, 6, 3)
    assert example.label["class"].shape == (8, 6)


def test_split_list(tmp_path):
    for index, name in enumerate(("a.jpg", "b/c.png", "b/d.d.png", "été.jpg", "x.jpg")):
        photo(tmp_path / "images" / name, 20 * index)
    lines = [
        "\ufeff# a comment",
        "",
        unicodedata.normalize("NFD", "été"),
        "b/d.d",
        "./b/c.png",
        "b/c",
    ]
    (tmp_path / "train.txt").write_text("\r\n".join(lines), encoding="utf-8")
    source = open_folder(str(tmp_path), images="images", split_list="train.txt")
    assert source.names == ("b/c.png", "b/d.d.png", "été.jpg")
    np.testing.assert_allclose(values(source), [20, 40, 60], atol=1)


def test_split_stands_in_the_paths(tmp_path):
    for split in ("train", "val"):
        photo(tmp_path / "images" / split / f"{split}.jpg")
        label(tmp_path / "labels" / split / f"{split}.png", 2)
        (tmp_path / f"{split}.txt").write_text(f"{split}/{split}")
    paths = {"images": "images/{split}", "labels": "labels/{split}", "class_names": NAMES}
    assert open_folder(str(tmp_path), "val", **paths).names == ("val.jpg",)
    listed = open_folder(str(tmp_path), "train", images="images", split_list="{split}.txt")
    assert listed.names == ("train/train.jpg",)
    assert len(open_folder(str(tmp_path), "train", images="images")) == 2
    with pytest.raises(UserError, match=r"data\.images: there is no folder .*images/test"):
        open_folder(str(tmp_path), "test", **paths)


def test_split_list_names_that_are_missing(tmp_path):
    photo(tmp_path / "a.jpg")
    names = ["a", *(f"missing{index}" for index in range(7))]
    (tmp_path / "list.txt").write_text("\n".join(names))
    with pytest.raises(
        UserError, match=r"7 of its 8 names .*missing0, .*missing4 and 2 more.*with or without"
    ):
        open_folder(str(tmp_path), split_list="list.txt")


def test_split_list_that_cannot_be_used(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"cannot read .*none\.txt: No such file"):
        open_folder(str(tmp_path), split_list="none.txt")
    for content, message in (
        (b"\n# nothing\n", "names no image"),
        (b"caf\xe9.jpg", "is not UTF-8"),
        (b"a", r"several images have the name a \(a\.jpg, a\.png\)"),
    ):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(UserError, match=message):
            open_folder(str(tmp_path), split_list="list.txt")


def test_damaged_files_are_an_error(damaged):
    with pytest.raises(UserError) as caught:
        open_folder(str(damaged))
    message = str(caught.value)
    assert "2 of 5 images" in message
    assert "1.png: the file is empty" in message
    assert "3.png: " in message
    assert "data.on_corrupt='skip'" in message


def test_at_most_five_damaged_files_are_listed(tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.jpg").touch()
    with pytest.raises(UserError) as caught:
        open_folder(str(tmp_path), on_corrupt="skip")  # none is left to take their place
    assert str(caught.value).count(".jpg:") == 5
    assert "9 of 9 images" in str(caught.value)
    assert "and 4 more" in str(caught.value)


def test_damaged_files_are_replaced_by_the_next(damaged, warnings):
    source = open_folder(str(damaged), on_corrupt="skip")
    assert len(source) == 5
    assert source.skipped == ("1.png", "3.png")
    assert values(source) == [0, 80, 80, 160, 160]
    assert source[1].name == "2.png"
    assert any("2 of 5" in line for line in warnings)


def test_the_last_file_is_replaced_by_the_first(tmp_path):
    photo(tmp_path / "a.png", 70)
    (tmp_path / "b.png").touch()
    assert values(open_folder(str(tmp_path), on_corrupt="skip")) == [70, 70]


def test_a_stand_in_has_no_label(tmp_path):
    for name in "abc":
        photo(tmp_path / "images" / f"{name}.png")
        label(tmp_path / "labels" / f"{name}.png", 1)
    (tmp_path / "labels" / "a.png").write_bytes(b"")  # a label counts as much as its image
    source = open_folder(
        str(tmp_path), images="images", labels="labels", class_names=NAMES, on_corrupt="skip"
    )
    assert source.skipped == ("a.png",)
    np.testing.assert_array_equal(source[0].label["class"], np.full((6, 8), -1))
    np.testing.assert_array_equal(source[1].label["class"], np.full((6, 8), 1))


def test_decode_failure_is_an_error(tmp_path):
    photo(tmp_path / "a.png")
    decode_failure(tmp_path / "b.png")
    source = open_folder(str(tmp_path))
    with pytest.raises(UserError, match=r"b\.png: .*data\.on_corrupt='skip'"):
        source[1]


def test_decode_failure_is_replaced_and_logged_once(tmp_path, warnings):
    photo(tmp_path / "a.png", 50)
    decode_failure(tmp_path / "b.png")
    photo(tmp_path / "c.png", 90)
    source = open_folder(str(tmp_path), on_corrupt="skip")
    assert values(source) == [50, 90, 90]
    assert values(source) == [50, 90, 90]
    assert len([line for line in warnings if "b.png" in line]) == 1


def test_all_failing_at_decode_ends(tmp_path):
    decode_failure(tmp_path / "a.png")
    source = open_folder(str(tmp_path), on_corrupt="skip")
    with pytest.raises(UserError, match="none of the 1 images"):
        source[0]


def test_linked_folder_and_broken_link(tmp_path):
    photo(tmp_path / "elsewhere" / "a.png", 10)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert open_folder(str(tmp_path / "root")).names == ("link/a.png",)
    (tmp_path / "root" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"gone\.png: no such file \(or a link to nothing\)"):
        open_folder(str(tmp_path / "root"))


def test_a_copy_in_another_process_reads_the_same(damaged):
    source = open_folder(str(damaged), on_corrupt="skip")
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy, Folder)
    assert copy == source
    assert values(copy) == values(source)
