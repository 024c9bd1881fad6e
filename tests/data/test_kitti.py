"""KITTI-STEP in both layouts of its images, the semantic benchmark, the real samples."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.cityscapes import IDS19, NAMES19
from jaxseg.data.kitti import SEQUENCES, STEP_IDS, open_kitti_semantic, open_kitti_step
from tests.data.layouts_scenes import save, write_kitti_semantic, write_kitti_step


def test_the_tables_are_those_of_the_reference(label_maps):
    reference = label_maps["kitti_step"]
    assert list(NAMES19) == reference["names19"]
    assert list(SEQUENCES["train"]) == reference["train_sequences"]
    assert list(SEQUENCES["val"]) == reference["val_sequences"]
    assert STEP_IDS.classes == {i: i for i in range(19)} | {reference["void"]: -1}


def test_panoptic_maps_give_the_red_channel(tmp_path):
    write_kitti_step(tmp_path)
    source = open_kitti_step(str(tmp_path), "train+val")
    assert [name.split("/")[2] for name in source.names] == ["0000"] * 2 + ["0001"] * 2 + [
        "0002", "0002", "0006",
    ]  # fmt: skip
    for index in range(len(source)):
        red = np.asarray(Image.open(source.labels[index]))[:, :, 0].astype(int)
        np.testing.assert_array_equal(source[index].label["class"], np.where(red == 255, -1, red))


def test_a_train_id_above_18_is_named(tmp_path):
    write_kitti_step(tmp_path)
    path = tmp_path / "panoptic_maps/val/0006/000000.png"
    save(np.full((30, 100, 3), (19, 0, 1), np.uint8), path)
    with pytest.raises(UserError, match=r"000000\.png holds the value 19, .*expected 0 to 18, 255"):
        open_kitti_step(str(tmp_path), "val")[2]


def test_images_as_the_tracking_benchmark_unpacks(tmp_path):
    write_kitti_step(tmp_path)
    expected = {split: open_kitti_step(str(tmp_path), split) for split in ("train", "val")}
    for split in expected:
        for folder in (tmp_path / "images" / split).iterdir():
            shutil.move(folder, tmp_path / "training" / "image_02" / folder.name)
    shutil.rmtree(tmp_path / "images")
    for split, before in expected.items():
        after = open_kitti_step(str(tmp_path), split)
        assert after.labels == before.labels
        assert [n.split("/")[-2:] for n in after.names] == [n.split("/")[-2:] for n in before.names]


def test_semantic_splits_are_disjoint_and_all(tmp_path):
    write_kitti_semantic(tmp_path)
    names = {s: open_kitti_semantic(str(tmp_path), s).names for s in ("train", "val", "all")}
    assert [name[-9:-7] for name in names["val"]] == ["03", "07"]
    assert sorted(names["train"] + names["val"]) == sorted(names["all"])
    assert len(names["all"]) == 8
    test = open_kitti_semantic(str(tmp_path), "test")
    assert test.classes == {}
    assert len(test) == 2


def test_real_samples(real_data):
    root = str(real_data("kitti_semantic"))
    source = open_kitti_semantic(root, "all")
    assert len(source) == 32
    assert source.skipped == ()
    assert len(open_kitti_semantic(root, "train")) == 24
    for index in (0, 31):
        example = source[index]
        stored = np.asarray(Image.open(source.labels[index])).ravel().tolist()
        label = example.label["class"]
        assert example.image.shape == (512, 1536, 3)
        assert label.ravel().tolist() == [IDS19.classes[value] for value in stored]
        # Road, and sky or vegetation, are in every street.
        assert 0 in label
        assert {8, 10} & set(np.unique(label))
