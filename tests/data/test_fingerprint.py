"""Fingerprints: another one for other images or weights, and only then."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.cache import Cached
from jaxseg.data.fingerprint import of_arrays, of_source
from jaxseg.data.five_crop import FiveCrop
from jaxseg.data.folder import open_folder
from jaxseg.data.scenes import Scenes
from jaxseg.data.tfds import open_tfds
from tests.data.layouts_scenes import write_tfds


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a_label.png")
    return tmp_path


def opened(folder, **fields):
    return open_folder(str(folder), class_names=("one",), **fields)


def test_fingerprints_change_with_images_alone(folder):
    before = of_source(opened(folder))
    assert of_source(opened(folder)) == before
    assert of_source(Cached(opened(folder))) == before
    assert of_source(FiveCrop(opened(folder))) != before
    assert of_source(FiveCrop(Cached(opened(folder)))) == of_source(FiveCrop(opened(folder)))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "b_label.png")
    assert of_source(opened(folder)) == before
    os.utime(folder / "b.png", ns=(1, 1))
    touched = of_source(opened(folder))
    assert touched != before
    (folder / "b.png").rename(folder / "c.png")
    (folder / "b_label.png").unlink()
    assert of_source(opened(folder)) not in (before, touched)


def test_labels_count_where_a_bad_one_changes_the_image(folder):
    before = of_source(opened(folder, on_corrupt="skip"))
    os.utime(folder / "a_label.png", ns=(1, 1))
    assert of_source(opened(folder, on_corrupt="skip")) != before


def test_fingerprints_of_files_that_cannot_be_looked_at(folder):
    source = opened(folder)
    before = of_source(source)
    (folder / "b.png").unlink()
    assert of_source(source) != before


def test_fingerprints_of_scenes():
    found = {
        of_source(Scenes(**fields))
        for fields in (
            {},
            {"count": 2000},  # what {} says too
            {"seed": 1},
            {"size": 64},
            {"split": "val"},
            {"count": 3},
        )
    }
    assert len(found) == 5


def test_fingerprints_of_prepared_data_sets(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    write_tfds(tmp_path)

    def found(split="train", **fields):
        return of_source(open_tfds(str(tmp_path), split, "mini", **fields))

    before = found()
    assert found(class_names=("a", "b", "c"), first_value=1) == before
    assert len({before, found("train[:50%]"), found("test"), found(channels=4)}) == 4
    assert found(image_feature="segmentation_mask") != before
    (shard,) = tmp_path.glob("mini/*/*train*array_record*")
    os.utime(shard, ns=(1, 1))
    assert found() != before


@dataclasses.dataclass(frozen=True)
class Anonymous:
    """A source that does not say what it is."""

    classes = {}  # noqa: RUF012

    def __len__(self):
        return 1


@pytest.mark.parametrize("wrap", [FiveCrop, Cached, lambda source: source])
def test_a_source_without_a_fingerprint(wrap):
    with pytest.raises(UserError, match=r"Anonymous source have no fingerprint.* leave data.toke"):
        of_source(wrap(Anonymous()))


def test_fingerprints_of_weights():
    tree = {"a": {"w": np.arange(6.0).reshape(2, 3)}, "b": np.zeros(2, np.float32)}
    others = [
        {"a": {"w": np.arange(6.0).reshape(3, 2)}, "b": tree["b"]},
        {"a": {"v": tree["a"]["w"]}, "b": tree["b"]},
        {"a": tree["a"], "b": np.zeros(2, np.int32)},
        {"a": tree["a"], "b": np.array([0.0, 1e-30], np.float32)},
    ]
    assert of_arrays(tree) == of_arrays(jax.tree.map(np.copy, tree))
    assert of_arrays({"b": jax.numpy.zeros(2)}) == of_arrays({"b": tree["b"]})
    assert len({of_arrays(other) for other in [tree, *others]}) == 5
