"""python -m jaxseg.prepare regions: what it makes, leaves, resumes and reports."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.boundaries import coherent
from jaxseg.boundaries.coherent import PRESETS, Cut, coherent_regions
from jaxseg.boundaries.edges import with_angles
from jaxseg.boundaries.gradient import gradient_edges
from jaxseg.boundaries.network import WEIGHTS
from jaxseg.commands import prepare, region_pool
from jaxseg.commands.region_map import Settings, count_regions, make_map
from jaxseg.commands.regions import histogram
from jaxseg.core import UserError
from jaxseg.data import SOURCES
from jaxseg.data.folder import open_folder
from jaxseg.data.images import read_image, read_label
from jaxseg.data.packed import open_packed
from jaxseg.data.with_regions import open_regions
from tests.data.layouts_coco import write_cocostuff

NAMES = ("a.png", "b/c.jpg", "b/d é.png")
BLACK = "b/black.png"


@pytest.fixture
def images(tmp_path):
    """Photograph-like images of several sizes, in a tree."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (4 + number, 6, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((70, 50 + 3 * number), Image.Resampling.BICUBIC)
        picture.save(path)
    return tmp_path / "images"


def run(images, out, *more):
    flags = [f"--images={images}", f"--out={out}", "--processes=2", "--edges=gradient"]
    return prepare.main(["regions", *flags, *more])


def settings(images, out, kind=Settings, side=2048):
    return kind(str(images), str(out), "gradient", "", PRESETS["gradient"], side)


def expected(image):
    return coherent_regions(image, gradient_edges, PRESETS["gradient"], 2048)


@pytest.mark.slow
def test_maps_mirror_the_images_and_failures_end_it_with_1(images, tmp_path, capsys):
    out = tmp_path / "out"
    (images / "b/broken.jpg").write_bytes(b"no image")
    assert run(images, out) == 1
    told = capsys.readouterr()
    assert "FAILED b/broken.jpg: cannot read image" in told.err
    assert "regions an image:" in told.out
    for name in NAMES:
        path = (out / name).with_suffix(".png")
        np.testing.assert_array_equal(read_label(path), expected(read_image(images / name)))
        with Image.open(path) as stored:
            assert stored.mode == "I;16"
        assert count_regions(path) == read_label(path).max() + 1
    report = out / "regions_report"
    assert list(json.loads((report / "failures.json").read_text())) == ["b/broken.jpg"]
    assert "b/broken.jpg" in (report / "index.html").read_text()
    assert min(Image.open(report / "contact_sheet.png").size) > 200

    # Mended, only what is missing is made; a part that a kill left is gone.
    (images / "b/broken.jpg").unlink()
    (out / "a.png").unlink()
    (out / "b/c.png.0123.tmp").write_bytes(b"half")
    before = (out / "b/c.png").stat().st_mtime_ns
    assert run(images, out, "--processes=1") == 0
    assert (out / "b/c.png").stat().st_mtime_ns == before
    assert "3 images, 2 of them done before" in capsys.readouterr().out
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.png*")) == [
        "a.png", "b/c.png", "b/d é.png",
        "regions_report/contact_sheet.png", "regions_report/histogram.png",
    ]  # fmt: skip


@pytest.fixture
def maps(images, tmp_path):
    """Maps of all images, made in this process, beside what the command writes of its settings."""
    out = tmp_path / "maps"
    ours = settings(images, out)
    for name in NAMES:
        assert make_map(ours, gradient_edges, name).failure == ""
    (out / "regions.json").write_text(json.dumps(ours.identity()))
    return out


def test_maps_made_otherwise_are_not_mixed(images, maps, capsys):
    assert run(images, maps) == 0  # nothing is left to do, so no process starts
    with pytest.raises(UserError, match=r"made with limit 48; here it is 7.*--overwrite"):
        run(images, maps, "--limit=7")
    with pytest.raises(UserError, match=r"made with side 2048; here it is 99"):
        run(images, maps, "--side=99")
    (maps / "regions.json").write_text("{")
    with pytest.raises(UserError, match=r"regions.json is damaged"):
        run(images, maps)
    (maps / "regions.json").unlink()
    with pytest.raises(UserError, match=r"a.png is there, but no regions.json"):
        run(images, maps)
    assert run(images, maps, "--limit=7", "--overwrite", "--processes=1") == 0
    assert max(count_regions((maps / n).with_suffix(".png")) for n in NAMES) <= 7
    assert "3 images, 0 of them done before" in capsys.readouterr().out


def test_maps_know_the_weights_that_made_them(images, maps, tmp_path):
    shipped = dataclasses.replace(settings(images, maps), edges="network")
    same = dataclasses.replace(shipped, model=str(WEIGHTS))
    assert shipped.identity() == same.identity()
    assert shipped.identity()["model"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    assert dataclasses.replace(shipped, model=str(other)).identity() != shipped.identity()
    assert settings(images, maps).identity()["model"] == ""


def test_a_damaged_map_is_made_again(images, maps, capsys):
    (maps / "a.png").write_bytes(b"\x89PNG")
    assert run(images, maps, "--processes=1") == 0
    assert "2 of them done before" in capsys.readouterr().out
    assert count_regions(maps / "a.png") == read_label(maps / "a.png").max() + 1


def test_an_image_that_was_replaced_is_told(images, maps):
    Image.new("RGB", (9, 8)).save(images / "a.png")
    with pytest.raises(UserError, match=r"a\.png is 50 x 70, its image 8 x 9.*Remove the map"):
        run(images, maps)


def test_maps_are_taken_by_training_and_by_packing(images, maps, tmp_path):
    source, line = open_regions(open_folder(str(images)), str(maps), 48)
    assert str(maps) in line
    for index in range(len(source)):
        example = source[index]
        np.testing.assert_array_equal(example.regions, expected(example.image))
    packed = tmp_path / "packed"
    command = ["pack", "folder", f"--root={images}", f"--out={packed}", f"--regions={maps}"]
    assert prepare.main([*command, "--split="]) == 0
    stored = open_packed(str(packed), "")
    for index in range(len(source)):
        np.testing.assert_array_equal(stored[index].regions, source[index].regions)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--images=/nowhere"], "there is no folder /nowhere"),
        (["--edges=line"], "line"),
        (["--edges=structured_forest"], "structured_forest edges need a model"),
        (["--edges=structured_forest", "--model=/no.yml"], "no structured forest '/no.yml'"),
        (["--edges=network", "--model=/no.file"], "cannot read the boundary network /no.file"),
        (["--preset=none"], "none"),
        (["--limit=0"], "the cut's limit is 0"),
        (["--start=2"], "the cut's start is 2"),
        (["--side=0"], "--side is 0"),
        (["--model=/some.yml"], "gradient edges read none"),
    ],
)
def test_wrong_flags_are_named(images, tmp_path, flags, says):
    with pytest.raises(UserError, match=says):
        run(images, tmp_path / "out", *flags)


def test_folders_that_would_clash_are_refused(images, tmp_path):
    for out in (images, images.parent):
        with pytest.raises(UserError, match="is or holds the folder of images"):
            run(images, out)
    shutil.copy(images / "a.png", images / "a.tif")
    with pytest.raises(UserError, match="differ in the suffix alone"):
        run(images, tmp_path / "out")
    with pytest.raises(UserError, match="there is no image below"):
        run(tmp_path / "out", tmp_path / "more")


def test_labels_beside_images_have_no_maps(images, maps, capsys):
    shutil.copy(images / "a.png", images / "a_label.png")
    assert run(images, maps) == 0
    assert "3 images, 3 of them" in capsys.readouterr().out


def test_maps_of_a_part_of_a_data_set_bear_its_names(tmp_path):
    root, maps = tmp_path / "root", tmp_path / "maps"
    write_cocostuff(root)
    ours = settings(root / "train2017", maps / "train2017")
    source = SOURCES["coco"](str(root), split="train")
    for name in sorted(p.name for p in (root / "train2017").iterdir()):
        assert make_map(ours, gradient_edges, name).failure == ""
    example = open_regions(source, str(maps), 48)[0][0]
    np.testing.assert_array_equal(example.regions, expected(example.image))


def test_maps_below_the_images_are_not_taken_for_images(images, capsys):
    out = images / "maps"
    for _ in range(2):
        ours = settings(images, out)
        for name in NAMES:
            make_map(ours, gradient_edges, name)
        (out / "regions.json").write_text(json.dumps(ours.identity()))
        assert run(images, out) == 0
        assert "3 images, 3 of them" in capsys.readouterr().out


def deadly(image):
    """Dies of a black image, as of too large a one."""
    if not image.any():
        os.kill(os.getpid(), signal.SIGKILL)
    return gradient_edges(image)


class Deadly(Settings):
    def detector(self):
        return deadly


class Stillborn(Settings):
    def detector(self):
        os._exit(3)


@pytest.mark.slow
def test_a_dying_process_costs_one_image(images, tmp_path):
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(images / BLACK)
    ours = settings(images, tmp_path / "out", Deadly)
    found = []
    region_pool.make_maps(ours, [BLACK, *NAMES], 2, found.append)
    failed = {outcome.name: outcome.failure for outcome in found if outcome.failure}
    assert list(failed) == [BLACK]
    assert "ended from outside" in failed[BLACK]
    assert {outcome.name for outcome in found} == {BLACK, *NAMES}
    for name in NAMES:
        assert count_regions(ours.map(name))


@pytest.mark.slow
def test_processes_that_never_live_end_the_command(images, tmp_path):
    ours = settings(images, tmp_path / "out", Stillborn)
    with pytest.raises(UserError, match="a worker process ended before it had an image"):
        region_pool.make_maps(ours, ["a.png"] * 9, 1, lambda outcome: None)


def test_a_folder_that_cannot_be_written_ends_the_command(images, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_text("a file in the place of a folder")
    with pytest.raises(OSError, match="b"):
        make_map(settings(images, out), gradient_edges, "b/c.jpg")
    with pytest.raises(
        UserError, match=r"--out: cannot write below .*the maps that are made are kept"
    ):
        run(images, out, "--processes=1")


@pytest.mark.slow
def test_a_killed_command_goes_on(images, tmp_path):
    """Killed with -9 it leaves whole maps and no processes; the same command makes the rest."""
    for number in range(40):
        shutil.copy(images / "a.png", images / f"more {number}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jaxseg.prepare", "regions", f"--images={images}",
               f"--out={out}", "--processes=2", "--samples=3"]  # fmt: skip
    root = pathlib.Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root)
    deadline = time.time() + 120
    while len(list(out.glob("*.png"))) < 3:
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.01)
    children = [p for p in running() if parent(p) == process.pid]
    assert children
    process.kill()
    process.wait()
    made = list(out.rglob("*.png"))
    assert 3 <= len(made) < 43
    assert all(read_label(path).max() + 1 == count_regions(path) for path in made)
    while any(p in running() for p in children):
        assert time.time() < deadline
        time.sleep(0.05)
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "43 images" in done.stdout
    assert "43 maps in" in done.stdout
    assert len([p for p in out.rglob("*.png") if "regions_report" not in str(p)]) == 43
    assert not list(out.rglob("*.tmp"))
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "43 images, 43 of them done before" in again.stdout


def running():
    return [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()]


def parent(process):
    try:
        return int(pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return -1


def test_beam_makes_the_same_maps(images, tmp_path, capsys):
    pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")
    out = tmp_path / "out"
    (images / "b/broken.jpg").write_bytes(b"no image")
    assert run(images, out, "--runner=DirectRunner", "--runner-options=--direct_num_workers=1") == 1
    assert "FAILED b/broken.jpg: cannot read image" in capsys.readouterr().err
    for name in NAMES:
        path = (out / name).with_suffix(".png")
        np.testing.assert_array_equal(read_label(path), expected(read_image(images / name)))


def test_a_runner_that_beam_does_not_know_is_told(images, tmp_path):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match=r"Beam does not take --runner=Nonsense: .*DirectRunner"):
        run(images, tmp_path / "out", "--runner=Nonsense")


def test_without_beam_it_says_what_to_install(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "jaxseg.commands.region_beam", raising=False)
    monkeypatch.delattr("jaxseg.commands.region_beam", raising=False)
    with pytest.raises(UserError, match=r"pip install 'jaxseg\[beam\]'"):
        run(images, tmp_path / "out", "--runner=DirectRunner")


def test_large_images_are_segmented_at_a_smaller_size(images, tmp_path):
    ours = settings(images, tmp_path / "out", side=35)
    assert make_map(ours, gradient_edges, "a.png").failure == ""
    regions = read_label(ours.map("a.png"))
    assert regions.shape == (50, 70)
    np.testing.assert_array_equal(regions[:, ::2], regions[:, 1::2])


def test_too_many_regions_are_a_failure_of_the_image(images, tmp_path, monkeypatch):
    monkeypatch.setattr(coherent, "MOST", 20)
    cut = Cut(start=0.0, limit=5, fixed=True)
    ours = dataclasses.replace(settings(images, tmp_path / "out"), cut=cut)

    def noise(image):
        return with_angles(np.random.default_rng(0).random((50, 70), np.float32))

    assert "a map holds 20" in make_map(ours, noise, "a.png").failure


def test_a_strange_image_is_a_failure_of_its_own(images, tmp_path):
    def fails(image):
        raise RuntimeError("no edges today")

    outcome = make_map(settings(images, tmp_path / "out"), fails, "a.png")
    assert outcome == ("a.png", "RuntimeError: no edges today")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values", [[3], [1, 48], [5, 5, 6], list(range(100))])
def test_the_histogram_counts_every_image_once(values):
    rows = histogram(values)
    assert len(rows) <= 12
    assert sum(count for *_, count in rows) == len(values)
    assert all(count == sum(low <= v <= high for v in values) for low, high, count in rows)
