"""What jax and NumPy alone, or onnxruntime alone, make of exported files is what the run says.

Differences allowed: 1e-5 of the largest score, 1e-5 of features of length 1, 1 pixel in 1,000.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

import jax
import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.commands import export as command
from jaxseg.commands.bundle import main as bundle_main
from jaxseg.commands.export import export, main, other_entries
from jaxseg.commands.onnx_environment import REQUIREMENTS, VARIABLE
from jaxseg.core import UserError
from jaxseg.portable import Portable, check_apart, compare
from jaxseg.record import Result, Samples, save_result
from tests.runs import CLASSES, DATA, KMEANS, OWN, SEGSORT, SMOOSEG, make_run

ROOT = pathlib.Path(__file__).parents[2]
RNG = np.random.default_rng(0)
CENTROIDS = RNG.normal(size=(3, 4)).astype(np.float32)
PICIE = {"name": "picie", "clusters": 3, "backbone": "resnet_tiny", "dim": 4}
SAN = {"name": "san", "clusters": 3, "features": 8, "blocks": 1, "heads": 2, "trained_cells": 4}
NEAREST = OWN | {"upsample": "nearest"}
# As large as the images that the command itself compares: what is compiled for those is kept.
SEVERAL = RNG.integers(0, 256, (2, 128, 160, 3), np.uint8)
SQUARE = RNG.integers(0, 256, (2, 32, 32, 3), np.uint8)
# Name: method, entry of evals, what it was fitted to, images that the file has to take.
RUNS = {
    "picie": (PICIE, NEAREST, {}, SEVERAL),
    "segsort": (SEGSORT, KMEANS, {"centroids": CENTROIDS}, SEVERAL),
    "san": (SAN, OWN, {}, SEVERAL),
    "smooseg": (SMOOSEG, OWN, {}, SQUARE),
}  # fmt: skip
# With nothing but jax and NumPy: `-I` leaves out the current folder and PYTHONPATH.
ALONE = """
import sys
import numpy as np
from jax import export

for name in sys.argv[1:]:
    with open(f"{name}.stablehlo", "rb") as file:
        model = export.deserialize(bytearray(file.read()))
    found = model.call(np.load(f"{name}.npy"))
    np.savez(f"{name}.npz", **{key: np.asarray(value) for key, value in found.items()})
assert not [name for name in sys.modules if name.split(".")[0] in ("jaxseg", "flax", "tests")]
"""
ALONE_ONNX = """
import sys
import numpy as np
import onnxruntime

for name in sys.argv[1:]:
    model = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in model.get_outputs()]
    found = model.run(names, {"image": np.load(f"{name}.npy")})
    np.savez(f"{name}.npz", **dict(zip(names, found)))
assert not [name for name in sys.modules if name.split(".")[0] in ("jaxseg", "jax", "jax2onnx")]
"""


def arguments(workdir, out, form="stablehlo", **given):
    values = {"entry": "", "size": None, "levels": False, "python": ""} | given
    return argparse.Namespace(model=str(workdir), out=str(out), format=form, **values)


def make(folder, name):
    method, entry, fitted, images = RUNS[name]
    make_run(folder / name, method, entry, fitted=fitted)
    np.save(folder / f"{name}.npy", images)
    return folder / name


def run_alone(folder, code, names, python=sys.executable):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-I", "-c", code, *names], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def check_same(folder, name):
    """What the file said of each image is what the segmenter says."""
    segmenter = jaxseg.load(folder / name, resize=0)
    with np.load(folder / f"{name}.npz") as file:
        found = dict(file)
    for i, image in enumerate(np.load(folder / f"{name}.npy")):
        wanted = segmenter(image)
        largest = np.abs(wanted._scores).max()
        np.testing.assert_allclose(found["scores"][i], wanted._scores, atol=1e-5 * largest)
        np.testing.assert_allclose(found["features"][i], wanted.features, atol=1e-5)
        assert found["labels"].dtype == np.int32
        assert (found["labels"][i] != wanted.labels).mean() <= 1e-3
        assert len(set(wanted.labels.ravel())) > 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a run, a file and what the file says without jaxseg, of each of RUNS."""
    folder = tmp_path_factory.mktemp("exported")
    for name in RUNS:
        export(arguments(make(folder, name), folder / f"{name}.stablehlo"))
    run_alone(folder, ALONE, RUNS)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_the_file_says_without_jaxseg_what_the_segmenter_says(exported, name):
    check_same(exported, name)


def test_what_lies_beside_says_what_the_file_takes_and_gives(exported):
    facts = {name: json.loads((exported / f"{name}.stablehlo.json").read_text()) for name in RUNS}
    free = {name: facts[name]["inputs"]["image"]["shape"] for name in RUNS}
    assert free["segsort"] == ["b", "16*h", "16*w", 3]
    assert free["picie"] == ["b", "32*h", "32*w", 3]
    assert [name for name in RUNS if facts[name]["fixed_size"]] == ["smooseg"]
    assert free["smooseg"] == ["b", 32, 32, 3]
    one = facts["segsort"]
    assert one["names"] == ["road", "cluster 1", "sky"]
    assert len(one["colours"]) == 3
    assert one["outputs"].keys() == {"labels", "scores", "features"}
    assert one["outputs"]["labels"]["shape"] == ["b", "16*h", "16*w"]
    assert any("levels" in line for line in one["left_out"])
    assert max(one["compared"].values()) < 1e-5
    assert {"jax", "jaxseg", "calling_convention"} <= one["versions"].keys()
    assert "cuda" in one["platforms"]
    # What it says is how to call it.
    example = one["call"].replace("segsort.stablehlo", str(exported / "segsort.stablehlo"))
    scope = {}
    exec(example, scope)
    assert scope["labels"].shape == scope["images"].shape[:3]


def test_the_example_of_the_documentation(exported, tmp_path):
    text = (ROOT / "docs" / "export.md").read_text()
    for end in ("stablehlo", "stablehlo.json"):
        shutil.copy(exported / f"picie.{end}", tmp_path / f"model.{end}")
    Image.fromarray(SEVERAL[0, :100, :110]).save(tmp_path / "photo.png")
    (tmp_path / "segment.py").write_text(text.split("```python\n")[1].split("```")[0])
    done = subprocess.run(
        [sys.executable, "-I", "segment.py", "photo.png"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("road: ")
    padded = np.pad(SEVERAL[0, :100, :110], ((0, 28), (0, 18), (0, 0)), mode="edge")
    wanted = jaxseg.load(exported / "picie", resize=0)(padded)
    with Image.open(tmp_path / "labels.png") as picture:
        painted = np.asarray(picture)
    np.testing.assert_array_equal(painted, wanted.colours[wanted.labels][:100, :110])


def test_a_bundle_is_exported_with_levels_at_a_fixed_size(exported, capsys):
    bundle, out = exported / "bundle.safetensors", exported / "levels.stablehlo"
    bundle_main([str(exported / "segsort"), f"--out={bundle}"])
    main([str(bundle), "--format=stablehlo", "--levels", "--size=128x160", f"--out={out}"])
    assert "The size is fixed: --size was given" in capsys.readouterr().out
    model = jax.export.deserialize(bytearray(out.read_bytes()))
    found = model.call(SEVERAL)
    with np.load(exported / "segsort.npz") as wanted:
        np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-5)
    wanted = jaxseg.load(exported / "segsort", resize=0)(SEVERAL[0]).levels[0]
    np.testing.assert_array_equal(found["level0"][0].repeat(8, 0).repeat(8, 1), wanted)
    with pytest.raises(ValueError, match="shape"):
        model.call(SQUARE)


def test_entries_that_name_no_pixels_are_left_out(exported):
    for name, kind, protocol in (
        ("found", "retrieval", {"model": "trained", "refine": "none"}),
        ("smoothed", "clusters", {"model": "trained", "refine": "crf"}),
        ("colour", "clusters", {"model": "colour", "refine": "none"}),
    ):
        result = Result(
            name, {}, np.ones(3, np.int64), CLASSES, Samples([], None, []), kind=kind,
        )  # fmt: skip
        save_result(exported / "picie" / "evaluation", result, protocol | {"probe": "X()"})
    left = other_entries(str(exported / "picie"), jaxseg.load(exported / "picie").trained)
    for start in ("evals.found: retrieval", "evals.smoothed: crf", "evals.colour: a baseline"):
        assert any(line.startswith(start) for line in left)
    assert len(left) == 3
    out = exported / "x.stablehlo"
    with pytest.raises(UserError, match="no evaluation 'found' of clusters"):
        export(arguments(exported / "picie", out, entry="found"))


def test_what_cannot_be_exported_is_told(exported, monkeypatch, capsys):
    run, out = exported / "smooseg", exported / "x.stablehlo"
    with pytest.raises(UserError, match=r"--out is .*\.onnx.*\.stablehlo"):
        export(arguments(run, exported / "x.onnx"))
    with pytest.raises(UserError, match=r"--size is 30x32.*multiples of 16"):
        export(arguments(run, out, size=(30, 32)))
    with pytest.raises(SystemExit):
        main([str(run), "--format=stablehlo", "--out=x.stablehlo", "--size=30"])
    assert "expected HxW" in capsys.readouterr().err
    monkeypatch.setattr(command, "_LARGEST", 1000)
    with pytest.raises(UserError, match=r"weights, and a file of stablehlo.*as a bundle"):
        export(arguments(run, out))
    assert not out.exists()


def test_a_file_that_says_something_else_is_refused():
    scores = np.ones((1, 2, 2, 3), np.float32)
    labels = np.zeros((1, 4, 4), np.int32)
    wanted = {"scores": 2 * scores, "labels": labels}
    apart = compare({"scores": 2.5 * scores, "labels": labels + np.eye(4, dtype=int)}, wanted)
    assert apart == {"scores": pytest.approx(0.25), "labels": 0.25}
    with pytest.raises(UserError, match=r"scores 0\.25.*elsewhere"):
        check_apart(apart, "elsewhere")
    with pytest.raises(UserError, match="nan"):
        check_apart({"scores": float("nan")})
    check_apart(compare(wanted, wanted))


def test_onnx_says_how_to_make_its_environment(exported):
    run, out = exported / "picie", exported / "x.onnx"
    with pytest.raises(UserError, match=rf"pip install -r \S+onnx_requirements[\s\S]*{VARIABLE}"):
        export(arguments(run, out, "onnx"))
    with pytest.raises(UserError, match="--levels: jax2onnx does not convert"):
        export(arguments(run, out, "onnx", levels=True))
    with pytest.raises(UserError, match="nowhere cannot be started"):
        export(arguments(run, out, "onnx", python="nowhere"))
    poor = exported / "python"
    poor.write_text("#!/bin/sh\necho \"No module named 'jax2onnx'\" >&2\nexit 1\n")
    poor.chmod(0o755)
    with pytest.raises(UserError, match=r"status 1[\s\S]*'jax2onnx'[\s\S]*make it anew"):
        export(arguments(run, out, "onnx", python=str(poor)))
    assert not out.exists()


def test_the_environment_for_onnx_has_what_jaxseg_imports():
    listed = set(REQUIREMENTS.read_text().splitlines())
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    missing = {line.partition(">=")[0] for line in set(own) - listed}
    # Those come with jax2onnx, of versions that suit it.
    assert missing == {"jax", "numpy", "orbax-checkpoint"}


@pytest.mark.slow
def test_onnx_says_what_the_segmenter_says(tmp_path):
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"no environment for ONNX: set {VARIABLE} (docs/export.md)")
    for name in ("picie", "smooseg"):
        size = RUNS[name][-1].shape[1:3]
        export(arguments(make(tmp_path, name), tmp_path / f"{name}.onnx", "onnx", size=size,
                         python=python))  # fmt: skip
    run_alone(tmp_path, ALONE_ONNX, ("picie", "smooseg"), python)
    for name in ("picie", "smooseg"):
        check_same(tmp_path, name)
        facts = json.loads((tmp_path / f"{name}.onnx.json").read_text())
        assert {"jax2onnx", "onnxruntime", "opset"} <= facts["versions"].keys()
        assert "onnxruntime.InferenceSession" in facts["call"]
        # Weights stand in it once, though SmooSeg's network is in it twice.
        bundle_main([str(tmp_path / name), f"--out={tmp_path}/{name}.safetensors"])
        sizes = [(tmp_path / f"{name}.{end}").stat().st_size for end in ("onnx", "safetensors")]
        assert sizes[0] < 1.6 * sizes[1]


def test_a_linear_probe_is_in_the_function(tmp_path):
    make_run(tmp_path, PICIE | {"online_probes": {"classes": 3}}, OWN | {"source": "linear_probe"})
    segmenter = jaxseg.load(tmp_path, resize=0)
    portable = Portable(segmenter.trained)
    assert portable.default_size == (DATA["crop"], DATA["crop"])
    image = portable.sample((32, 48), 1)
    found, wanted = jax.jit(portable)(image), segmenter(image[0])
    largest = np.abs(wanted._scores).max()
    np.testing.assert_allclose(found["scores"][0], wanted._scores, atol=1e-5 * largest)
    np.testing.assert_array_equal(found["labels"][0], wanted.labels)
