"""jaxseg.predict: what it writes, what it does again, and what it says of files it cannot read."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

import jaxseg
from jaxseg.commands import predict as command
from jaxseg.data.masks import decode_runs
from tests.runs import INFOSEG, OWN, make_run

RNG = np.random.default_rng(0)
SCALE, TIE = (0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 370000.25, 5800000.5, 0.0)
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
ASCII = "WGS 84 / UTM zone 33N|"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with classes, as drawn."""
    place = tmp_path_factory.mktemp("model")
    make_run(place, INFOSEG, OWN)
    return place


@pytest.fixture(scope="module", autouse=True)
def _one_model(workdir):
    """Loads the run once for all tests of this file: what it compiles is shared."""
    loaded = {}
    load = command.segmenters.load

    def once(*args):
        if args not in loaded:
            loaded[args] = load(*args)
        return loaded[args]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.segmenters, "load", once)
        yield


def photo(path, height=40, width=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def run(workdir, *images, out, **flags):
    words = [f"--{key}={value}" for key, value in flags.items()]
    arguments = command._parser().parse_args(
        [*map(str, images), f"--model={workdir}", f"--out={out}", *words]
    )
    return command.predict(arguments)


def details(out, name):
    return json.loads((out / "details" / f"{name}.json").read_text())


def test_what_is_written_of_an_image(workdir, tmp_path):
    photo(tmp_path / "in" / "deep" / "a.jpg", 45, 61)
    out = tmp_path / "out"
    assert run(workdir, tmp_path / "in", out=out) == (1, 0, {})
    wanted = jaxseg.load(workdir)(tmp_path / "in" / "deep" / "a.jpg")
    labels = Image.open(out / "labels" / "deep" / "a.png")
    np.testing.assert_array_equal(np.asarray(labels), wanted.labels)
    np.testing.assert_array_equal(labels.convert("RGB"), wanted.colours[wanted.labels])
    np.testing.assert_array_equal(Image.open(out / "overlays" / "deep" / "a.png"), wanted.overlay())
    found = details(out, "deep/a")
    assert (found["height"], found["width"], found["georeferenced"]) == (45, 61, False)
    assert found["model"] == jaxseg.load(workdir).trained.sha256
    assert [row["name"] for row in found["classes"]] == ["road", "cluster 1", "sky"]
    assert sum(row["share"] for row in found["classes"]) == pytest.approx(1)
    for row in found["classes"]:
        mask = wanted.labels == row["id"]
        assert row["pixels"] == mask.sum()
        if row["mask"]:
            np.testing.assert_array_equal(decode_runs(row["mask"]), mask)


def test_done_is_not_done_again(workdir, tmp_path):
    sources = [photo(tmp_path / f"{name}.png") for name in "abc"]
    out = tmp_path / "out"
    assert run(workdir, *sources[:2], out=out)[:2] == (2, 0)
    before = (out / "labels" / "a.png").stat().st_mtime_ns
    # Of b the details are not there, as after a kill; c is new.
    (out / "details" / "b.json").unlink()
    assert run(workdir, *sources, out=out)[:2] == (2, 1)
    assert (out / "labels" / "a.png").stat().st_mtime_ns == before
    # Another image under the name, another setting, another model.
    photo(sources[0], 30, 30)
    assert run(workdir, *sources, out=out)[:2] == (1, 2)
    assert details(out, "a")["height"] == 30
    assert run(workdir, *sources, out=out, opacity=0.25)[:2] == (3, 0)
    assert run(workdir, *sources, out=out, opacity=0.25)[:2] == (0, 3)
    assert not list(out.rglob("*.tmp"))


def test_images_of_one_name_do_not_collide(workdir, tmp_path):
    same = [photo(tmp_path / place) for place in ("x/a.png", "y/a.png", "x/a.jpg")]
    photo(tmp_path / "z" / "a.png")
    out = tmp_path / "out"
    assert run(workdir, *same, tmp_path / "z", out=out)[0] == 4
    names = {path.stem for path in (out / "labels").iterdir()}
    assert len(names) == 4
    assert "a" in names
    sources = {details(out, name)["source"] for name in names}
    assert len(sources) == 4
    # In another order, and one alone: each keeps its name.
    assert run(workdir, *same[::-1], out=out)[:2] == (0, 3)
    # Another command's image does not take the place of what is there.
    assert run(workdir, photo(tmp_path / "w" / "a.png"), out=out)[0] == 1
    assert len(list((out / "labels").iterdir())) == 5
    assert details(out, "a")["source"] == str(same[0])


def test_the_output_below_the_input_is_no_input(workdir, tmp_path):
    photo(tmp_path / "a.png")
    for before in (0, 1):
        assert run(workdir, tmp_path, out=tmp_path / "out")[:2] == (1 - before, before)


def test_unreadable_files_are_listed_at_the_end(workdir, tmp_path, capsys):
    good = [photo(tmp_path / f"{n}.png") for n in range(3)]
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    shutil.copy(good[0], tmp_path / "cut.png")
    with open(tmp_path / "cut.png", "r+b") as file:
        file.truncate(200)
    command_line = [f"--model={workdir}", str(tmp_path), f"--out={tmp_path / 'out'}"]
    with pytest.raises(SystemExit) as stop:
        command.main([*command_line, str(tmp_path / "absent.png")])
    message = str(stop.value.code)
    assert message.startswith("jaxseg: 3 images could not be segmented:")
    for name in ("bad.jpg", "cut.png", "absent.png"):
        assert name in message
    shown = capsys.readouterr()
    assert "3 images segmented, 0 before" in shown.out
    assert "6/6" in shown.err
    for name in ("bad.jpg", "cut.png"):
        (tmp_path / name).unlink()
    command.main(command_line)
    assert "0 images segmented, 3 before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model={run}", "{empty}", "--out={out}"), "no images in"),
        (("--model={empty}", "{empty}", "--out={out}"), "no trained run"),
        (("--model={run}", "{empty}", "--out={file}"), "is a file"),
        (("--model={run}", "{empty}", "--out={out}", "--opacity=2"), "--opacity is 2"),
    ],
)
def test_what_a_user_gets_wrong(workdir, tmp_path, flags, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    names = {name: tmp_path / name for name in ("empty", "out", "file")} | {"run": workdir}
    with pytest.raises(SystemExit, match=message):
        command.main([flag.format(**names) for flag in flags])


def test_a_geotiff_keeps_its_place(workdir, tmp_path):
    image = RNG.integers(0, 256, (40, 50, 3), np.uint8)
    extra = [
        (33550, "d", 3, SCALE, True), (33922, "d", 6, TIE, True),
        (34735, "H", len(KEYS), KEYS, True), (34737, "s", 0, ASCII, True),
    ]  # fmt: skip
    tifffile.imwrite(tmp_path / "map.tif", image, photometric="rgb", extratags=extra)
    tifffile.imwrite(tmp_path / "plain.tif", image, photometric="rgb")
    run(workdir, tmp_path, out=tmp_path / "out")
    assert details(tmp_path / "out", "map")["georeferenced"]
    assert not (tmp_path / "out" / "geotiffs" / "plain.tif").exists()
    with tifffile.TiffFile(tmp_path / "out" / "geotiffs" / "map.tif") as file:
        tags = file.pages[0].tags
        assert tags[33550].value == SCALE
        assert tags[33922].value == TIE
        assert tags[34735].value == KEYS
        assert tags[34737].value == ASCII
        assert [tags[n].dtype.name for n in (33550, 33922, 34735, 34737)] == [
            "DOUBLE", "DOUBLE", "SHORT", "ASCII",
        ]  # fmt: skip
        labels = file.asarray()
    np.testing.assert_array_equal(labels, jaxseg.load(workdir)(image).labels)
    assert labels.dtype == np.uint8
