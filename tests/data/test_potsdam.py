"""Potsdam: tables, the tiles' pixels, splits, and preparing that is stopped, repeated or wrong."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import scipy.io
from absl import logging
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data import potsdam_tiles
from jaxseg.data.images import read_image
from jaxseg.data.potsdam import (
    COLOURS6,
    EXPECTED,
    LISTS,
    NAMES3,
    NAMES6,
    SIX_TO_THREE,
    SPLITS,
    open_potsdam,
    open_potsdam3,
    read_list,
)
from jaxseg.data.potsdam_tiles import LABELLED, prepare_potsdam
from tests.data.layouts_scenes import save, write_potsdam, write_potsdam_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release of five images of 200 x 200, and its tiles of 50 x 50."""
    root = tmp_path_factory.mktemp("potsdam")
    write_potsdam(root)
    return root


def test_the_tables_are_those_of_the_reference(label_maps):
    reference = label_maps["potsdam"]
    assert list(NAMES6) == reference["names6"]
    assert list(NAMES3) == reference["names3"]
    assert {str(k): v for k, v in SIX_TO_THREE.items()} == reference["map6_to_3"]
    assert len(reference["classes6"]) == 6
    for entry in reference["classes6"]:
        assert NAMES6[entry["id6"]] == entry["name"]
        assert COLOURS6[tuple(entry["rgb"])] == entry["id6"]
        assert SIX_TO_THREE[entry["id6"]] == entry["id3"]


def test_counts_follow_from_the_release():
    counts = EXPECTED["potsdam"]
    assert len(LABELLED) == 24
    assert counts["all"] == potsdam_tiles.IMAGES * 15 * 15
    assert counts["labelled"] == len(LABELLED) * 15 * 15
    for split, lists in SPLITS.items():
        assert counts[split] == sum(counts[one] for one in lists)


def test_tiles_are_the_halved_images(release):
    six = open_potsdam(str(release), "all", channels=4)
    three = open_potsdam3(str(release), "all")
    assert len(six) == len(three) == 5 * 4
    assert six.classes == {"class": NAMES6}
    for index in range(len(six)):
        place, at = six.names[index].removesuffix(".png").split("/")
        row, column = (50 * int(number) for number in at.split("_"))
        where = np.s_[row : row + 50, column : column + 50]
        tif = release / "4_Ortho_RGBIR" / f"top_potsdam_{place}_RGBIR.tif"
        whole = read_image(tif, 4).astype(int)
        halved = (whole.reshape(100, 2, 100, 2, 4).sum((1, 3)) + 2) // 4
        np.testing.assert_array_equal(six[index].image, halved[where])
        np.testing.assert_array_equal(three[index].image, halved[where][..., :3])
        path = release / "5_Labels_for_participants" / f"top_potsdam_{place}_label.tif"
        label = np.full((50, 50), -1)
        if path.exists():
            colours = np.asarray(Image.open(path))[::2, ::2][where].reshape(-1, 3).tolist()
            label = np.array([COLOURS6[tuple(c)] for c in colours]).reshape(50, 50)
        np.testing.assert_array_equal(six[index].label["class"], label)
        merged = np.array([*SIX_TO_THREE.values(), -1])[label]
        np.testing.assert_array_equal(three[index].label["class"], merged)


def test_splits_are_disjoint_and_the_test_is_a_tenth(release):
    lists = {name: set(read_list(str(release / "tiles"), name)) for name in LISTS}
    assert [len(lists[name]) for name in LISTS] == [8, 10, 2]
    assert len(set.union(*lists.values())) == 20
    places = {name: {tile.split("/")[0] for tile in tiles} for name, tiles in lists.items()}
    assert places["unlabelled_train"] == {"2_13", "6_14"}
    assert open_potsdam(str(release), "unlabelled_train").classes == {}
    assert len(open_potsdam(str(release), "labelled_train+unlabelled_train")) == 18
    assert len(open_potsdam(str(release / "tiles"), "labelled")) == 12
    # A tile of two named parts comes once.
    assert len(open_potsdam(str(release), "labelled+train")) == 20


def test_another_seed_draws_another_test_and_keeps_the_tiles(release, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    counts = prepare_potsdam(str(release), out, tile=50, seed=0)
    assert counts == {"unlabelled_train": 8, "labelled_train": 10, "labelled_test": 2}
    first = {name: read_list(out, name) for name in LISTS}
    assert first == {name: read_list(str(release / "tiles"), name) for name in LISTS}
    monkeypatch.setattr(potsdam_tiles, "_cut", lambda *args: pytest.fail("tiles were cut again"))
    draws = set()
    for seed in (0, 1, 2, 3):
        prepare_potsdam(str(release), out, tile=50, seed=seed)
        draws.add(tuple(read_list(out, "labelled_test")))
    assert tuple(first["labelled_test"]) in draws
    assert len(draws) > 1


def test_stopping_between_two_lists_leaves_no_mixture(release, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    prepare_potsdam(str(release), out, tile=50)
    original = potsdam_tiles._write

    def write(path, text):
        if path.endswith("labelled_test.txt"):
            raise KeyboardInterrupt
        original(path, text)

    monkeypatch.setattr(potsdam_tiles, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        prepare_potsdam(str(release), out, tile=50, seed=1)
    with pytest.raises(UserError, match="holds no finished tiles"):
        open_potsdam(out, "train")


def test_an_incomplete_release_is_told(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: lines.append(text % args))
    write_potsdam_release(tmp_path)
    prepare_potsdam(str(tmp_path), tile=50)
    assert [line.split(";")[1] for line in lines] == [" the release has 38 and 24"]
    assert "5 images" in lines[0]
    assert "3 of them with labels" in lines[0]


def test_labels_that_come_later_are_taken(tmp_path):
    write_potsdam_release(tmp_path)
    labels, aside = tmp_path / "5_Labels_for_participants", tmp_path.parent / f"{tmp_path.name}_off"
    labels.rename(aside)
    assert prepare_potsdam(str(tmp_path), tile=50)["unlabelled_train"] == 20
    aside.rename(labels)
    assert prepare_potsdam(str(tmp_path), tile=50)["unlabelled_train"] == 8
    assert open_potsdam(str(tmp_path), "labelled")[0].label["class"].min() >= 0


def test_labels_of_other_images_do_not_count(tmp_path):
    write_potsdam_release(tmp_path)
    labels = tmp_path / "5_Labels_for_participants"
    image = Image.open(labels / "top_potsdam_2_10_label.tif")
    image.save(labels / "top_potsdam_2_13_label.tif")  # published later, to no paper's use
    counts = prepare_potsdam(str(tmp_path), tile=50)
    assert counts["unlabelled_train"] == 8


def test_borders_without_class_are_ignored(tmp_path):
    write_potsdam_release(tmp_path)
    labels = tmp_path / "5_Labels_for_participants"
    for path in labels.iterdir():
        painted = np.array(Image.open(path))
        painted[:4] = 0
        save(painted, labels.parent / "no" / f"{path.stem}_noBoundary.tif")
        path.unlink()
    prepare_potsdam(str(tmp_path), tile=50)
    source = open_potsdam(str(tmp_path), "labelled")
    top = next(i for i, name in enumerate(source.names) if name.endswith("00_00.png"))
    label = source[top].label["class"]
    assert (label[:2] == -1).all()
    assert (label[2:] >= 0).all()


def test_preparing_goes_on_where_it_stopped(tmp_path, monkeypatch):
    write_potsdam_release(tmp_path)
    original, calls = potsdam_tiles._cut, []

    def cut(path, *args):
        calls.append(os.path.basename(path))
        for number, tile in enumerate(original(path, *args)):
            if len(calls) == 3 and number == 2:
                raise KeyboardInterrupt
            yield tile

    monkeypatch.setattr(potsdam_tiles, "_cut", cut)
    with pytest.raises(KeyboardInterrupt):
        prepare_potsdam(str(tmp_path), tile=50, threads=1)
    with pytest.raises(UserError, match=r"holds no finished tiles .*were begun: give the command"):
        open_potsdam(str(tmp_path), "train")
    stopped = set(calls)
    done = {path.name for path in (tmp_path / "tiles" / "images").iterdir()}
    shown = []
    calls[:] = ["", "", "", ""]
    prepare_potsdam(str(tmp_path), tile=50, threads=1, report=lambda *args: shown.append(args))
    assert shown == [(n, 5) for n in range(1, 6)]
    assert len(calls) - 4 == 5 - len(done)
    assert stopped
    assert len(open_potsdam(str(tmp_path), "all")) == 20
    assert not [p for p in (tmp_path / "tiles").iterdir() if p.name.startswith(".")]


def test_bands_and_settings(tmp_path):
    write_potsdam_release(tmp_path)
    out = str(tmp_path / "tiles")
    for path in (tmp_path / "4_Ortho_RGBIR").iterdir():
        bands = read_image(path, 4)
        irrg = tmp_path / "3_Ortho_IRRG" / path.name.replace("RGBIR", "IRRG")
        save(np.ascontiguousarray(bands[..., [3, 0, 1]]), irrg)
    prepare_potsdam(str(tmp_path), out, bands="IRRG", tile=50)
    source = open_potsdam(out, "all")
    assert source[0].image.shape == (50, 50, 3)
    with pytest.raises(UserError, match=r"channels is 4, but the tiles in .* cut from IRRG images"):
        open_potsdam(out, "all", channels=4)
    with pytest.raises(UserError, match=r"tiles holds tiles made with .*'IRRG'.* not with .*RGBIR"):
        prepare_potsdam(str(tmp_path), out, tile=50)
    with pytest.raises(UserError, match=r"no RGB images under .* \(there are RGBIR, IRRG\)"):
        prepare_potsdam(str(tmp_path), out, bands="RGB")


def test_what_cannot_be_cut_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no RGBIR or RGB or IRRG images under .*unpack"):
        prepare_potsdam(str(tmp_path))
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        prepare_potsdam(str(tmp_path / "nowhere"))
    write_potsdam_release(tmp_path)
    with pytest.raises(UserError, match=r"RGBIR\.tif is 200 x 200; expected .* multiples of 400"):
        prepare_potsdam(str(tmp_path), str(tmp_path / "a"))
    tif = tmp_path / "4_Ortho_RGBIR" / "top_potsdam_3_11_RGBIR.tif"
    content = tif.read_bytes()
    tif.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot read image .*3_11_RGBIR\.tif: damaged"):
        prepare_potsdam(str(tmp_path), str(tmp_path / "b"), tile=50)
    tif.write_bytes(content)
    label = tmp_path / "5_Labels_for_participants" / "top_potsdam_3_11_label.tif"
    save(np.zeros((200, 100, 3), np.uint8), label)
    with pytest.raises(UserError, match=r"3_11_label\.tif is 200 x 100 and its image .*200 x 200"):
        prepare_potsdam(str(tmp_path), str(tmp_path / "c"), tile=50)
    save(np.full((200, 200, 3), (255, 0, 255), np.uint8), label)
    with pytest.raises(UserError, match=r"3_11_label\.tif holds the colour \(255, 0, 255\)"):
        prepare_potsdam(str(tmp_path), str(tmp_path / "d"), tile=50)


def test_tiles_and_lists_of_iic_are_taken_over(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 20, 20, 4), np.uint8)
    labels = rng.integers(0, 6, (6, 20, 20)).astype(np.int32)
    for kind in ("imgs", "gt"):
        (tmp_path / kind).mkdir()
    for number in range(6):
        scipy.io.savemat(tmp_path / "imgs" / f"{number}.mat", {"img": images[number]})
        if number < 4:
            scipy.io.savemat(tmp_path / "gt" / f"{number}.mat", {"gt": labels[number]})
    for name, numbers in zip(LISTS, ((5, 4), (2, 0, 3), (1,)), strict=True):
        (tmp_path / f"{name}.txt").write_text("".join(f"{n}\n" for n in numbers))
    counts = prepare_potsdam(str(tmp_path), tile=20)
    assert counts == {"unlabelled_train": 2, "labelled_train": 3, "labelled_test": 1}
    source = open_potsdam(str(tmp_path), "all", channels=4)
    for index, number in enumerate((5, 4, 2, 0, 3, 1)):
        np.testing.assert_array_equal(source[index].image, images[number])
        expected = labels[number] if number < 4 else -1
        np.testing.assert_array_equal(
            source[index].label["class"], np.broadcast_to(expected, (20, 20))
        )
    (tmp_path / "imgs" / "3.mat").write_bytes(b"MATLAB")
    with pytest.raises(UserError, match=r"cannot read 'img' of .*3\.mat"):
        prepare_potsdam(str(tmp_path), str(tmp_path / "again"), tile=20)


def test_what_there_is_in_the_place_of_tiles_is_told(tmp_path):
    def told():
        with pytest.raises(
            UserError, match=r"holds no finished tiles .* -m jaxseg\.prepare tiles"
        ) as e:
            open_potsdam(str(tmp_path), "train")
        return str(e.value)

    assert "Nor are there images top_potsdam_<r>_<c>_RGBIR.tif to cut." in told()
    (tmp_path / "4_Ortho_RGBIR.zip").touch()
    assert "There are archives (4_Ortho_RGBIR.zip): unpack them" in told()
    write_potsdam_release(tmp_path)
    assert "the release, not cut yet (5 *_RGBIR.tif, 3 *_label.tif)" in told()
    for kind in ("imgs", "gt"):
        (tmp_path / kind).mkdir()
    assert "There are IIC's tiles (imgs, gt)" in told()
    (tmp_path / "tiles.json").write_text('{"bands": ')
    with pytest.raises(UserError, match=r"cannot read .*tiles\.json: Expecting value"):
        open_potsdam(str(tmp_path), "train")


def test_given_lists_take_the_place_of_the_draw(release, tmp_path):
    out, lists = str(tmp_path / "out"), tmp_path / "lists"
    lists.mkdir()
    given = {
        "unlabelled_train": ["6_14/01_00", "2_13/00_01"],
        "labelled_train": ["2_10/00_00"],
        "labelled_test": ["3_11/00_01", "3_11/00_00", "2_10/01_01"],
    }
    for name, tiles in given.items():
        (lists / f"{name}.txt").write_text("".join(f"{tile}\n" for tile in tiles))
    counts = prepare_potsdam(str(release), out, tile=50, lists=str(lists))
    assert counts == {"unlabelled_train": 2, "labelled_train": 1, "labelled_test": 3}
    assert {name: read_list(out, name) for name in LISTS} == given
    assert open_potsdam(out, "test").names == tuple(f"{t}.png" for t in given["labelled_test"])
    finished = json.loads((tmp_path / "out" / "tiles.json").read_text())
    assert (finished["lists"], finished["seed"]) == ("given", None)
    for text, message in (
        ("2_13/00_00\n", r"labelled_train\.txt names 1 files .*: labels/2_13/00_00\.png\. Correct"),
        ("2_10/07_00\n", r"names 2 files that are not in .*out: images/2_10/07_00\.png, labels"),
        ("3_11/00_00\n", r"lists in .*lists name tiles twice: 3_11/00_00"),
    ):
        (lists / "labelled_train.txt").write_text(text)
        with pytest.raises(UserError, match=message):
            prepare_potsdam(str(release), out, tile=50, lists=str(lists))
    (lists / "labelled_train.txt").unlink()
    with pytest.raises(
        UserError, match=r"cannot read the list .*: No such file.* --lists: expected"
    ):
        prepare_potsdam(str(release), str(tmp_path / "none"), tile=50, lists=str(lists))
    assert not (tmp_path / "none").exists()


def test_a_place_that_is_too_small_or_cannot_be_written(release, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out: cannot write to .*file/out: Not a directory"):
        prepare_potsdam(str(release), str(tmp_path / "file" / "out"), tile=50)
    needed = 5 * 100 * 100 * 4
    room = lambda free: lambda path: shutil._ntuple_diskusage(2 * needed, 0, free)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", room(needed - 1))
    with pytest.raises(
        UserError, match=r"--out: the disk of .*out is full: .* needs 200,000 bytes"
    ):
        prepare_potsdam(str(release), str(tmp_path / "out"), tile=50)
    assert not (tmp_path / "out" / "images").exists()
    monkeypatch.setattr(shutil, "disk_usage", room(needed))
    prepare_potsdam(str(release), str(tmp_path / "out"), tile=50)
    monkeypatch.setattr(shutil, "disk_usage", room(0))  # what is cut needs no more
    assert prepare_potsdam(str(release), str(tmp_path / "out"), tile=50)["labelled_test"] == 2

    def full(self, path, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.undo()
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(
        UserError, match=r"no room is left in .*more\. .*the images that are cut are"
    ):
        prepare_potsdam(str(release), str(tmp_path / "more"), tile=50)


def test_a_missing_list_and_a_missing_tile(release, tmp_path):
    out = tmp_path / "out"
    prepare_potsdam(str(release), str(out), tile=50)
    (out / "labelled_test.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read the list .*labelled_test\.txt: No such file"):
        open_potsdam(str(out), "test")
    (out / "images" / "2_10" / "00_01.png").unlink()
    with pytest.raises(UserError, match=r"2_10/00_01\.png: no such file"):
        open_potsdam(str(out), "labelled_train")
