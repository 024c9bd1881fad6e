"""python -m jaxseg.prepare: what it says of sound and of broken downloads, and how it ends."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg.commands import prepare
from jaxseg.core import UserError
from jaxseg.data import SOURCES
from jaxseg.data.catalogue import CATALOGUE
from jaxseg.data.cocopersons import open_cocopersons
from jaxseg.data.packed import open_packed
from tests.data.layouts_coco import (
    write_cocopersons,
    write_cocostuff,
    write_voc12,
    write_voc12_sbd,
)
from tests.data.layouts_scenes import write_cityscapes27, write_potsdam_release

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def camvid(tmp_path, monkeypatch):
    """A sound miniature of CamVid whose official counts are 6 and 4."""
    counts = {"train": 6, "val": 4}
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for i in range(count):
            for kind, values in (("images", (24, 32, 3)), ("labels", (24, 32))):
                path = tmp_path / kind / split / f"ö{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                high = 256 if kind == "images" else 12
                Image.fromarray(rng.integers(0, high, values, np.uint8)).save(path)
    for split, count in counts.items():
        monkeypatch.setitem(CATALOGUE["camvid"].expected, split, count)
    return tmp_path


def run_check(root, capsys, *more):
    status = prepare.main(["check", "camvid", f"--root={root}", "--split=train,val", *more])
    return status, capsys.readouterr().out


def wrong_lines(out):
    return [line for line in out.splitlines() if line.endswith("WRONG")]


def row(out, split, subject):
    """Returns the other columns of a line of the table."""
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    (found,) = [line[2:] for line in lines if line[:2] == [split, subject]]
    return found


def test_every_source_is_in_the_catalogue():
    assert CATALOGUE.keys() == SOURCES.keys()


def test_the_documented_table_is_that_of_the_catalogue():
    text = (ROOT / "docs/data.md").read_text()
    for name in CATALOGUE.keys() - {"packed"}:
        entry = CATALOGUE[name]
        counts = ", ".join(f"{split} {count:,}" for split, count in entry.expected.items())
        assert f"| {name} | {entry.tested} | {counts or 'none'} |" in text


def test_the_list_says_what_is_needed(capsys):
    assert prepare.main(["list"]) == 0
    out = capsys.readouterr().out
    for name, entry in CATALOGUE.items():
        assert f"{name}: {entry.title}" in out
        for text in (entry.layout, entry.licence, entry.classes, entry.tested):
            assert text.split()[0] in out
    assert prepare.main(["list", "camvid"]) == 0
    out = capsys.readouterr().out
    assert "train 367, val 101, test 233" in out
    assert "scenes: " not in out


def test_a_sound_copy_is_right(camvid, capsys):
    status, out = run_check(camvid, capsys)
    assert status == 0
    assert wrong_lines(out) == []
    assert "camvid: all is right." in out
    assert "height 24 to 24, width 32 to 32" in out
    assert "11 of 11 classes" in out


def test_curated_lists_are_checked_where_they_are_asked_for(tmp_path, capsys):
    write_cocostuff(tmp_path)
    command = ["check", "cocostuff27", f"--root={tmp_path}", "--split=train"]
    prepare.main(command)
    out = capsys.readouterr().out
    assert "All images that the list is chosen from are checked. --lists makes the list" in out
    assert "its images instead: curated7: images of at least 360 x 360" in out
    assert " 118287 " in out
    assert not (tmp_path / "jaxseg-lists").exists()
    prepare.main([*command, "--lists"])
    out = capsys.readouterr().out
    assert "are checked. --lists" not in out
    assert " 49629 " in out
    assert (tmp_path / "jaxseg-lists").exists()


def test_the_list_of_people_is_made_where_it_is_asked_for(tmp_path, capsys, monkeypatch):
    write_cocopersons(tmp_path)
    command = ["check", "cocopersons", f"--root={tmp_path}"]
    monkeypatch.setitem(CATALOGUE["cocopersons"].complete, "train", 11)
    assert prepare.main(command) == 0
    out = capsys.readouterr().out
    assert "--lists makes the list, which takes minutes" in out
    assert row(out, "train", "images") == ["11", "11", "ok"]
    assert not (tmp_path / "jaxseg-lists").exists()
    assert prepare.main([*command, "--lists"]) == 1
    assert row(capsys.readouterr().out, "train", "images") == ["9", "15399", "WRONG"]
    with pytest.raises(UserError, match=r"people_list is 'few'; expected one of persons, all"):
        open_cocopersons(str(tmp_path), "train", people_list="few")


def test_optional_splits_are_looked_at_where_they_are_there(tmp_path, capsys):
    write_voc12(tmp_path)
    command = ["check", "voc12", f"--root={tmp_path}"]
    prepare.main(command)
    out = capsys.readouterr().out
    assert row(out, "trainaug", "images") == ["10", "10582", "WRONG"]
    assert row(out, "trainaug", "images without label") == ["0"]
    (tmp_path / "JPEGImages" / "2007_000012.jpg").unlink()
    prepare.main(command)
    out = capsys.readouterr().out
    assert row(out, "trainaug", "layout") == ["not as expected", "WRONG"]
    shutil.rmtree(tmp_path / "SegmentationClassAug")
    prepare.main(command)
    out = capsys.readouterr().out
    absent = "absent: no SegmentationClassAug nor benchmark_RELEASE/dataset/cls (optional)"
    assert row(out, "trainaug", "images") == [absent]
    assert "2 things are wrong" in out  # the counts of train and val
    assert prepare.main([*command, "--split=trainaug"]) == 1
    assert row(capsys.readouterr().out, "trainaug", "layout") == ["not as expected", "WRONG"]


def test_the_large_splits_of_cityscapes_are_optional(tmp_path, capsys):
    write_cityscapes27(tmp_path)
    command = ["check", "cityscapes27", f"--root={tmp_path}"]
    prepare.main(command)
    out = capsys.readouterr().out
    assert row(out, "test", "images") == ["3", "1525", "WRONG"]
    assert row(out, "train_extra", "images") == ["3", "19998", "WRONG"]
    shutil.rmtree(tmp_path / "leftImg8bit" / "test")
    prepare.main(command)
    out = capsys.readouterr().out
    assert row(out, "test", "images") == ["absent: no leftImg8bit/test (optional)"]


def test_the_labels_of_sbd_are_counted(tmp_path, capsys):
    write_voc12_sbd(tmp_path)
    labels = tmp_path / "benchmark_RELEASE" / "dataset" / "cls"
    shutil.copy(labels / "2007_000012.mat", labels / "2007_000077.mat")
    prepare.main(["check", "voc12", f"--root={tmp_path}", "--split=trainaug"])
    out = capsys.readouterr().out
    assert row(out, "trainaug", "images without label") == ["0"]
    assert row(out, "trainaug", "labels without image") == ["1", "0", "WRONG"]
    assert f"{labels}/2007_000077.mat. Unpack" in out


def test_tiles_of_potsdam_are_cut_and_checked(tmp_path, capsys):
    write_potsdam_release(tmp_path, side=400)
    assert prepare.main(["check", "potsdam", f"--root={tmp_path}", "--split=all"]) == 1
    assert "not cut yet (5 *_RGBIR.tif, 3 *_label.tif)" in (out := capsys.readouterr().out)
    assert f"python -m jaxseg.prepare tiles --root={tmp_path}" in out
    assert prepare.main(["tiles", f"--root={tmp_path}"]) == 0
    told = capsys.readouterr()
    assert "cutting: 5/5  " in told.err
    assert (
        told.out == "unlabelled_train: 2 tiles, labelled_train: 3 tiles, labelled_test: 0 tiles\n"
    )
    lists = tmp_path / "lists"
    lists.mkdir()
    for name, tiles in (
        ("unlabelled_train", ""),
        ("labelled_train", "2_10"),
        ("labelled_test", "3_11"),
    ):
        (lists / f"{name}.txt").write_text(f"{tiles}/00_00\n" if tiles else "")
    assert prepare.main(["tiles", f"--root={tmp_path}", f"--lists={lists}"]) == 0
    assert "labelled_train: 1 tiles, labelled_test: 1 tiles" in capsys.readouterr().out
    prepare.main(["check", "potsdam", f"--root={tmp_path}", "--split=train"])
    assert row(capsys.readouterr().out, "train", "images") == ["1", "7695", "WRONG"]
    with pytest.raises(UserError, match=r"--out: cannot write to .*: Not a directory"):
        prepare.main(["tiles", f"--root={tmp_path}", f"--out={lists}/labelled_test.txt/out"])


def test_the_real_camvid_is_right(real_data, capsys):
    status, out = run_check(real_data("camvid"), capsys, "--seconds=2")
    assert status == 0, out


def remove(path):
    for kind in ("images", "labels"):
        (path / kind / "train" / "ö1.png").unlink()


def remove_image(path):
    (path / "images" / "train" / "ö1.png").unlink()


def remove_label(path):
    (path / "labels" / "val" / "ö2.png").unlink()


def cut_image(path):
    for number in (0, 3):
        file = path / "images" / "train" / f"ö{number}.png"
        file.write_bytes(file.read_bytes()[:300])


def damage_inside(path):
    file = path / "images" / "val" / "ö0.png"
    data = bytearray(file.read_bytes())
    data[200:900] = bytes(700)
    file.write_bytes(data)


def wrong_size(path):
    for number in range(6):
        Image.new("L", (31, 24)).save(path / "labels" / "train" / f"ö{number}.png")


def wrong_value(path):
    Image.new("L", (32, 24), 77).save(path / "labels" / "train" / "ö2.png")


def no_labels(path):
    for number in range(4):
        Image.new("L", (32, 24), 11).save(path / "labels" / "val" / f"ö{number}.png")


def add(path):
    for kind in ("images", "labels"):
        folder = path / kind / "train"
        shutil.copy(folder / "ö0.png", folder / "more.png")


def no_split(path):
    shutil.rmtree(path / "labels" / "val")


@pytest.mark.parametrize(
    ("harm", "wrong", "told"),
    [
        (remove, ["images"], "official set has 6 images, here are 5: unpack"),
        (add, ["images"], "official set has 6 images, here are 7: remove"),
        (remove_image, ["images", "labels without image"], "labels/train/ö1.png. Unpack"),
        (remove_label, ["layout"], "1 of 4 images have no label under"),
        (cut_image, ["unreadable files"], "images/train/ö0.png"),
        (damage_inside, ["damaged or wrong examples"], "images/val/ö0.png: damaged or truncated"),
        (wrong_size, ["layout"], "In all, 6 of 6 headers state two sizes"),
        (wrong_value, ["damaged or wrong examples"], "labels/train/ö2.png holds the value 77"),
        (no_labels, ["labelled, class"], "No pixel has a label"),
        (no_split, ["layout"], "no folder labels/val in data.root"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_found_and_said(camvid, capsys, harm, wrong, told):
    harm(camvid)
    status, out = run_check(camvid, capsys)
    assert status == 1
    found = wrong_lines(out)
    assert all(any(subject in line for line in found) for subject in wrong), out
    assert told in out
    assert "things are wrong" in out
    # What is not broken is still looked at.
    assert "ok" in out


def test_a_large_set_is_sampled_and_the_sample_stated(camvid, capsys):
    status, out = run_check(camvid, capsys, "--seconds=0")
    assert status == 0
    # What a second shared by two splits is enough for is read; here it is all.
    assert "(all read)" in out or "a random" in out


def test_pack_and_check_what_was_packed(camvid, tmp_path, capsys):
    out = tmp_path / "packed"
    pack = ["pack", "camvid", f"--root={camvid}", f"--out={out}", "--split=train,val"]
    assert prepare.main(pack) == 0
    assert f"--config.data.root={out}" in capsys.readouterr().out
    assert prepare.main(["check", "packed", f"--root={out}"]) == 0
    assert "6  " in capsys.readouterr().out
    (shard,) = out.glob("val-*.arrayrecord")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1  # in the padding of the file, where no record is
    shard.write_bytes(data)
    assert prepare.main(["check", "packed", f"--root={out}"]) == 1
    assert f"{shard.name}. Copy these shards again" in capsys.readouterr().out
    assert prepare.main(pack) == 0
    assert "packed already, 6 images" in capsys.readouterr().out


def test_decoded_images_are_kept_as_pixels_and_are_the_same(camvid, tmp_path):
    for decoded in ([], ["--decoded"]):
        out = tmp_path / f"packed{len(decoded)}"
        pack = ["pack", "camvid", f"--root={camvid}", f"--out={out}", "--split=val", *decoded]
        assert prepare.main(pack) == 0
        (shard,) = out.glob("*.arrayrecord")
        assert (b'"pixels ' in shard.read_bytes()) == bool(decoded)
    stored, pixels = (open_packed(str(tmp_path / f"packed{n}"), "val") for n in (0, 1))
    for index in range(len(stored)):
        np.testing.assert_array_equal(stored[index].image, pixels[index].image, strict=True)
    with pytest.raises(UserError, match="holds another pack, whose decoded is true"):
        prepare.main([*pack[:-1]])


def test_fields_of_the_data_set_can_be_set(tmp_path, capsys):
    command = ["pack", "scenes", f"--out={tmp_path}", "--split=val", "--set", "count=3"]
    assert prepare.main([*command, "--set=size=32"]) == 0
    assert "'val': 3 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "camvit", "--root=x"], "NAME is 'camvit'; it is one of"),
        (["check", "camvid"], "--root is missing; give the folder of camvid"),
        (["check", "scenes", "--set", "size"], "--set 'size': expected FIELD=VALUE"),
        (["check", "scenes", "--set", "seize=3"], "data.seize is not a field. Did you mean 'size'"),
        (["check", "packed", "--root=nope"], "manifest.json: No such file"),
        (["pack", "packed", "--root=x", "--out=y"], "give the data set that is to be packed"),
        (["pack", "camvid", "--root=nope", "--out=y"], "only the splits that you have: --split"),
        (["list", "nope"], "NAME is 'nope'"),
    ],
)
def test_what_a_user_gets_wrong(arguments, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        prepare.main(arguments)


def test_the_command_itself(tmp_path):
    command = [sys.executable, "-m", "jaxseg.prepare", "check", "camvid", f"--root={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "camvid: 3 things are wrong." in result.stdout
    command[-2:] = ["nope"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert result.stderr.startswith("jaxseg: NAME is 'nope'")
    assert "Traceback" not in result.stderr
    assert os.linesep in result.stderr
