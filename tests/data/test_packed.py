"""Packed data sets in the place of those that were packed: configs, joined splits, stand-ins."""

import importlib
import json
import re

import numpy as np
import pytest

from jaxseg.build import split_openers
from jaxseg.commands import prepare
from jaxseg.commands.pack import Packer
from jaxseg.core import UserError
from jaxseg.data.camvid import open_camvid
from jaxseg.data.cityscapes import open_cityscapes27
from jaxseg.data.packed import open_packed
from jaxseg.data.scenes import Scenes
from jaxseg.sections import read_config
from tests.data import layouts_coco, layouts_scenes

SCENES = {"name": "packed", "batch_size": 4}


def assert_same_examples(packed, source):
    assert packed.classes == source.classes
    assert len(packed) == len(source) > 0
    for index in range(len(source)):
        ours, theirs = packed[index], source[index]
        assert ours.name == theirs.name
        np.testing.assert_array_equal(ours.image, theirs.image, strict=True)
        assert ours.label.keys() == theirs.label.keys()
        for kind in theirs.label:
            np.testing.assert_array_equal(ours.label[kind], theirs.label[kind], strict=True)


@pytest.mark.parametrize(
    ("config", "write", "packing"),
    [
        ("smooseg_cocostuff27", layouts_coco.write_cocostuff, ["--split=val,train"]),
        ("picie_cocostuff15", layouts_coco.write_cocostuff, []),  # on "train+val"
        ("hsg_coco", layouts_coco.write_cocostuff, []),
        ("infoseg_cocopersons", layouts_coco.write_cocopersons, []),
        ("hsg_voc_imagenet", layouts_coco.write_voc12, ["--split=trainaug,val"]),
        # on "test+train_extra" and "val+train"
        ("picie_cityscapes27", layouts_scenes.write_cityscapes27,
         ["--split=train,val,test,train_extra"]),
        ("infoseg_potsdam", layouts_scenes.write_potsdam,
         ["--split=all,labelled", "--set=channels=4"]),
        ("infoseg_camvid", layouts_scenes.write_camvid, ["--split=train,val"]),
        ("hsg_kitti_step", layouts_scenes.write_kitti_step, []),
        ("infoseg_folder", layouts_scenes.write_camvid, []),
    ],
)  # fmt: skip
def test_a_config_of_the_data_set_opens_the_packed_one(tmp_path, config, write, packing):
    values = read_config(importlib.import_module(f"configs.{config}").get_config())["data"]
    write(tmp_path / "in")
    out = str(tmp_path / "out")
    root = f"--root={tmp_path / 'in'}"
    prepare.main(["pack", values["name"], root, f"--out={out}", *packing])
    _, openers = split_openers(values | {"root": str(tmp_path / "in")})
    _, packed = split_openers(values | {"name": "packed", "root": out})
    assert packed.keys() == openers.keys()
    for split, open_split in openers.items():
        assert_same_examples(packed[split](), open_split())


@pytest.fixture
def scenes(tmp_path):
    """Eight scenes, packed."""
    fields = {"size": 32, "count": 8}
    Packer(tmp_path, "scenes", fields).pack({"val": Scenes("val", **fields)})
    return tmp_path


def test_fields_that_decided_what_was_packed_are_compared(scenes):
    values = SCENES | {"root": str(scenes), "train_split": "val"}
    # As it was packed, the default of what was not set, and what decides nothing.
    section, openers = split_openers(values | {"size": 32, "count": 8, "seed": 0})
    assert section.name == "packed"
    assert len(openers["val"]()) == 8
    message = (
        f"{scenes} was packed from scenes with other fields than the config's: "
        "data.seed is 3, packed 0; data.size is 64, packed 32. Set --config.data.seed=0 "
        "--config.data.size=32 to use what was packed, or pack scenes into another folder with "
        "--set seed=3 --set size=64"
    )
    with pytest.raises(UserError) as caught:
        split_openers(values | {"size": 64, "count": 8, "seed": 3})
    assert str(caught.value) == message


def test_a_field_that_the_source_does_not_have_is_none(scenes):
    for field in ("seize", "on_corrupt", "split"):
        with pytest.raises(UserError, match=rf"data\.{field} is not a field"):
            split_openers(SCENES | {"root": str(scenes), field: 32})


def test_a_sequence_is_compared_by_its_members(tmp_path):
    source = Scenes("val", size=32, count=1)
    Packer(tmp_path, "folder", {"class_names": ("sky", "road")}).pack({"": source})
    values = SCENES | {"root": str(tmp_path), "train_split": "", "test_split": ""}
    for names in (("sky", "road"), ["sky", "road"]):
        assert split_openers(values | {"class_names": names, "ignore": (255,)})[1]
    with pytest.raises(UserError) as caught:
        split_openers(values | {"class_names": ("sky",)})
    assert "--config.data.class_names='('\"'\"'sky'\"'\"', '\"'\"'road'\"'\"')'" in str(
        caught.value
    )


def test_the_folder_is_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"data\.root is empty"):
        split_openers(SCENES)
    with pytest.raises(UserError, match=r"manifest\.json: No such file"):
        split_openers(SCENES | {"root": str(tmp_path)})


def test_splits_are_joined_in_the_order_in_which_they_are_named(tmp_path):
    layouts_scenes.write_camvid(tmp_path / "in")
    parts = {split: open_camvid(str(tmp_path / "in"), split) for split in ("train", "val")}
    Packer(tmp_path / "out", "camvid", {}, rule="all").pack(parts)
    joined = open_packed(str(tmp_path / "out"), "val+train")
    names = [joined[index].name for index in range(len(joined))]
    assert names == [*parts["val"].names, *parts["train"].names]
    assert joined.rule == "all"
    for split in ("val+test", "val+val", "val+"):
        with pytest.raises(UserError, match=re.escape(f"no packed split '{split}'; it has")):
            open_packed(str(tmp_path / "out"), split)
    with pytest.raises(UserError, match=r"prepare pack camvid --root=DIR .* --split=test$"):
        open_packed(str(tmp_path / "out"), "val+test")


def test_a_folder_is_the_whole_in_every_split_unless_its_splits_lie_apart(tmp_path):
    source = Scenes("val", size=32, count=1)
    for number, images in enumerate(("photos", "photos/{split}")):
        Packer(tmp_path / str(number), "folder", {"images": images}).pack({"": source})
    assert len(open_packed(str(tmp_path / "0"), "all")) == 1
    with pytest.raises(UserError, match="no packed split 'all'"):
        open_packed(str(tmp_path / "1"), "all")


def test_a_split_without_labels_joins_one_that_has_some(tmp_path):
    fields = {"root": str(tmp_path / "in")}
    layouts_scenes.write_cityscapes27(tmp_path / "in")
    for file in (tmp_path / "in" / "gtFine" / "test").rglob("*.png"):
        file.unlink()
    parts = {split: open_cityscapes27(split=split, **fields) for split in ("test", "train")}
    assert not parts["test"].classes
    Packer(tmp_path / "out", "cityscapes27", {}).pack(parts)
    joined = open_packed(str(tmp_path / "out"), "test+train")
    assert_same_examples(joined, open_cityscapes27(split="test+train", **fields))


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ([], "val: curated7: both sides at least 360 pixels, .* of 27; 2 of 3 images"),
        (["--set=val_list=all"], "val: every image; 3 of 3 images"),
        (["--set=val_list=mine.txt"], "val: the list mine.txt; 1 of 3 images"),
    ],
)
def test_the_rule_is_that_of_the_list_that_was_used(tmp_path, setting, rule):
    layouts_coco.write_cocostuff(tmp_path)
    (tmp_path / "mine.txt").write_text("000000003001\n")
    command = ["pack", "cocostuff27", f"--root={tmp_path}", f"--out={tmp_path / 'out'}"]
    prepare.main([*command, "--split=val", *setting])
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]["val"]
    assert re.fullmatch(rule, entry["rule"])


def test_the_rule_of_a_wrapped_source_is_that_of_its_list(tmp_path):
    layouts_coco.write_cocopersons(tmp_path)
    command = ["pack", "cocopersons", f"--root={tmp_path}", f"--out={tmp_path / 'out'}"]
    prepare.main([*command, "--set=count=4"])
    rule = open_packed(str(tmp_path / "out"), "train").rule
    assert rule.startswith("train: persons: person masks, ")
    assert rule.endswith("; the first 4 of 9 by id")


def damage(path):
    data = bytearray(path.read_bytes())
    del data[len(data) // 2 :]
    path.write_bytes(data)


@pytest.mark.parametrize("check", ["none", "headers"])
def test_images_in_the_place_of_damaged_ones_are_counted(tmp_path, capsys, check):
    layouts_coco.write_cocostuff(tmp_path)
    names = sorted(path.name for path in (tmp_path / "val2017").iterdir())
    damage(tmp_path / "val2017" / names[1])
    out = tmp_path / "out"
    command = ["pack", "cocostuff182", f"--root={tmp_path}", f"--out={out}", "--split=val"]
    with pytest.raises(UserError, match=rf"{names[1]}: damaged or truncated"):
        prepare.main([*command, f"--set=check={check}"])
    out = tmp_path / "skipping"
    command[3] = f"--out={out}"
    # Shards of about one image, so that the count has to be put together from several.
    skipping = [f"--set=check={check}", "--set=on_corrupt=skip", "--shard-mib=0.001"]
    prepare.main([*command, *skipping])
    damaged = f"val2017/{names[1]}"
    told = f"1 of 3 images cannot be read, and have others in their place: {damaged}"
    assert told in capsys.readouterr().out
    packed = open_packed(str(out), "val")
    assert len(packed.shards) == 3
    assert packed.skipped == (damaged,)
    assert packed[1].name == packed[2].name
    assert (packed[1].label["class"] == -1).all()
    assert prepare.main(["check", "packed", f"--root={out}"]) == 1
    assert f"unreadable files: {damaged} could not be read" in capsys.readouterr().out
