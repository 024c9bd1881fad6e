"""Every official layout of scenes: a miniature copy opens, and what is wrong with one is named."""

import importlib
import inspect
import os
import pickle
import shutil

import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.data import SOURCES
from tests.data import layouts_scenes

NAMES = sorted(
    name.removeprefix("write_")
    for name in vars(layouts_scenes)
    if name.startswith("write_") and name != "write_potsdam_release"
)
CUT = ("potsdam", "potsdam3")  # whose images are named in lists, and not found in folders
FILES = [name for name in NAMES if name != "tfds"]  # those whose images are files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns a function from a name to (root, fields); each layout is written once."""
    done = {}

    def write(name):
        if name not in done:
            root = tmp_path_factory.mktemp(name)
            done[name] = root, getattr(layouts_scenes, f"write_{name}")(root)
        return done[name]

    return write


@pytest.fixture
def copied(written, tmp_path):
    """As `written`, but the copy may be changed."""

    def copy(name):
        root, fields = written(name)
        return shutil.copytree(root, tmp_path / "copy"), fields

    return copy


def open_split(name, root, fields, split, **others):
    given = {k: v for k, v in fields.items() if k not in ("train_split", "test_split")}
    return SOURCES[name](root=str(root), split=split, **given, **others)


def both(name, root, fields, **others):
    return [
        open_split(name, root, fields, fields[s], **others) for s in ("train_split", "test_split")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_copy_opens(written, name):
    root, fields = written(name)
    names, seen = [], set()
    for source in both(name, root, fields):
        assert len(source) >= 2
        for index in range(len(source)):
            example = source[index]
            names.append(example.name)
            assert example.image.dtype == np.uint8
            assert example.image.shape[2] == fields.get("channels", 3)
            assert set(example.label) == set(source.classes)
            for label in example.label.values():
                assert label.dtype == np.int32
                assert label.shape == example.image.shape[:2]
                seen |= set(np.unique(label).tolist())
        if source.classes:
            count = len(source.classes["class"])
            assert set(range(count)) <= seen <= set(range(-1, count))
        np.testing.assert_array_equal(source[-1].image, example.image)
        again = pickle.loads(pickle.dumps(source))[len(source) - 1]
        assert (again.name, again.image.tobytes()) == (example.name, example.image.tobytes())
    assert len(set(names)) == len(names) or name == "tfds"


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("bsds500", "potsdam3")])
def test_labels_lie_on_their_images(written, name):
    root, fields = written(name)
    source = both(name, root, fields)[0]
    checked = 0
    for example in (source[index] for index in range(len(source))):
        label, image = example.label["class"], example.image.astype(float)
        # A class has one colour, with uniform noise of 12 grey levels, whose deviation is 7.
        for value in np.unique(label[label >= 0]):
            assert image[label == value].std(axis=0).max() < 10
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("name", [name for name in NAMES if name != "camvid"])  # has folders
def test_other_splits_are_named(written, name):
    root, fields = written(name)
    with pytest.raises(UserError, match=r"no split 'nothing'; its splits are .*train"):
        open_split(name, root, fields, "nothing")


@pytest.mark.parametrize("name", FILES)
def test_expected_counts_are_of_splits_that_can_be_opened(name):
    module = importlib.import_module(inspect.getmodule(SOURCES[name]).__name__)
    for split, count in module.EXPECTED[name].items():
        assert count > 0
        with pytest.raises(UserError) as caught:
            SOURCES[name](root="/nowhere", split=split)
        assert "has no split" not in str(caught.value)
        assert "/nowhere" in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_root_that_is_empty_or_lacks_everything(tmp_path, name):
    fields = {"tfds": "mini"} if name == "tfds" else {}
    for root, message in (("", r"data\.root"), (tmp_path, str(tmp_path))):
        with pytest.raises(UserError, match=message):
            open_split(name, root, fields, "train")


@pytest.mark.parametrize("name", FILES)
def test_truncated_images_are_named_or_replaced(copied, name):
    root, fields = copied(name)
    source = both(name, root, fields)[0]
    folder = getattr(source, "images", source)
    path = os.path.join(folder.root, folder.names[0])
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path) // 2)
    with pytest.raises(UserError, match=r"(?s)1 of \d+ images .*cannot read image"):
        both(name, root, fields)
    mended = both(name, root, fields, on_corrupt="skip")[0]
    assert mended.skipped == (folder.names[0],)
    assert mended[0].name == folder.names[1]
    assert all((label == -1).all() for label in mended[0].label.values())


@pytest.mark.parametrize("name", [n for n in FILES if n not in ("bsds500", "vaihingen")])
def test_a_label_of_another_size_is_named(copied, name):
    root, fields = copied(name)
    source = both(name, root, fields)[0]
    index = max(i for i, label in enumerate(source.labels) if label)
    layouts_scenes.save(np.zeros((3, 4), np.uint8), type(root)(source.labels[index]))
    with pytest.raises(UserError, match=r"is 3 x 4 and its image .*expected one size"):
        both(name, root, fields)


@pytest.mark.parametrize("name", [name for name in FILES if name not in CUT])
def test_a_split_without_images_is_named(copied, name):
    root, fields = copied(name)
    source = both(name, root, fields)[0]
    folder = getattr(source, "images", source)
    for image in folder.names:
        os.remove(os.path.join(folder.root, image))
    with pytest.raises(UserError, match=r"no image.* under "):
        both(name, root, fields)


@pytest.mark.parametrize("name", CUT)
def test_lists_without_tiles_are_named(copied, name):
    root, fields = copied(name)
    lists = [root / "tiles" / f"{part}.txt" for part in ("unlabelled_train", "labelled_train")]
    lists[0].write_text("\n")
    assert len(both(name, root, fields)[0]) == 10  # of two lists, one may be empty
    lists[1].write_text("")
    with pytest.raises(UserError, match=r"'train': .*unlabelled_train\.txt and .*name no tile"):
        both(name, root, fields)


@pytest.mark.parametrize("name", NAMES)
def test_links_and_names_that_are_not_ascii(written, tmp_path, name):
    root, fields = written(name)
    place = tmp_path / "Straßen und Wälder"
    place.symlink_to(root, target_is_directory=True)
    for linked, plain in zip(both(name, place, fields), both(name, root, fields), strict=True):
        assert len(linked) == len(plain)
        np.testing.assert_array_equal(linked[0].image, plain[0].image)


@pytest.mark.parametrize("name", [name for name in FILES if name not in CUT])
def test_a_folder_without_permission_is_named(written, name, monkeypatch):
    root, fields = written(name)
    deep = max((p for p in root.rglob("*") if p.is_dir()), key=lambda p: (len(p.parts), str(p)))
    original = os.scandir

    def scandir(path):
        # Every folder of the layout's deepest level, as the super user may read all of them.
        if len(os.path.normpath(path).split(os.sep)) == len(deep.parts):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        UserError, match=r"cannot list .*: Permission denied\. Mend its permissions"
    ):
        both(name, root, fields)


# Tiles of Potsdam may lack a label.
@pytest.mark.parametrize("name", [n for n in FILES if n not in CUT])
def test_a_label_that_is_missing_is_named(copied, name):
    root, fields = copied(name)
    source = both(name, root, fields)[0]
    labels = source.truths if name == "bsds500" else source.labels
    os.remove(labels[0])
    with pytest.raises(UserError, match=r"1 of \d+ images .*have no label under .*"):
        both(name, root, fields)
