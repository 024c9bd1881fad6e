"""The command itself, in processes of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.main import StopSignal
from jaxseg.record import load_results
from jaxseg.segmenter import load

ROOT = pathlib.Path(__file__).parents[1]
TINY = (
    "--config.method.features=8", "--config.method.patch_widths=(4,4,4,4,4)",
    "--config.method.global_widths=(4,4,4)", "--config.data.crop=32",
    "--config.data.batch_size=4", "--config.train.steps=4", "--config.train.samples=2",
    "--config.train.monitor_every=2", "--config.train.log_every=1", "--config.train.save_every=2",
)  # fmt: skip
SCENES = (*TINY, "--config.data.size=32", "--config.data.count=8", "--config.data.test_crop=32")


@pytest.mark.parametrize("between", [(), (signal.SIGTERM,)])
def test_a_second_interrupt_interrupts(between, capfd):
    # launch/local.sh sends SIGTERM after each.
    with StopSignal() as stop:
        assert not stop()
        for number in (signal.SIGINT, *between):
            signal.raise_signal(number)
            assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.received == signal.SIGINT
    assert capfd.readouterr().err.count("Stopping after this step") == 1


def jaxseg(*flags, config="infoseg_scenes", devices=1):
    xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "jaxseg.main", f"--config=configs/{config}.py", *flags]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )


def check_run(workdir, result, evaluators, labelled=True):
    assert result.returncode == 0, result.stderr
    for name in evaluators:
        record = json.loads((workdir / "evaluation" / f"{name}.json").read_text())
        assert ("accuracy" in record["scores"]) == labelled
        assert (workdir / "report" / f"confusion_{name}.png").exists() == labelled
        assert f"{name} " in result.stdout
    for picture in ("samples", "curves"):
        pixels = np.asarray(Image.open(workdir / "report" / f"{picture}.png").convert("RGB"))
        assert pixels.std() > 10
    assert "Retrieval gallery" in (workdir / "report" / "index.html").read_text()
    assert json.loads((workdir / "versions.json").read_text())["jax"] == jax.__version__
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "train/loss" in r] == [1, 2, 3, 4]
    assert [r["step"] for r in rows if "monitor/entropy" in r] == [2, 4]
    assert list((workdir / "tensorboard").iterdir())
    assert (workdir / "final" / "4").is_dir()


def check_segmenter(workdir, entry):
    """What loads the run names the pixels of the scored images as their evaluation did."""
    (result,) = (r for r in load_results(workdir / "evaluation") if r.name == entry)
    segmenter = load(workdir, entry)
    for found, wanted in zip(
        segmenter(result.samples.images), result.samples.predictions, strict=True
    ):
        # Another process with other devices may round otherwise, which moves a tie.
        assert (found.labels == wanted).mean() > 0.99
    named = [result.classes[c] if c >= 0 else f"cluster {k}" for k, c in enumerate(result.match)]
    assert list(segmenter.names) == named


@pytest.mark.slow
def test_scenes_end_to_end(tmp_path):
    workdir = tmp_path / "run"
    flags = (*SCENES, f"--workdir={workdir}", "--config.train.evaluate_every=4")
    first = jaxseg(*flags)
    check_run(workdir, first, ("infoseg", "untrained", "colour_kmeans"))
    assert "InfoSeg on scenes: 8 training and 8 test images, 4 steps of 4 images" in first.stdout
    again = jaxseg(*flags, "--mode=evaluate")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-5:] == first.stdout.splitlines()[-5:]
    check_segmenter(workdir, "infoseg")
    changed = jaxseg(*flags, "--config.optim.learning_rate=0.5")
    assert changed.returncode == 1
    assert "optim.learning_rate: 0.001 there, 0.5 here" in changed.stderr
    assert "Traceback" not in changed.stderr


@pytest.mark.slow
def test_a_folder_of_photographs(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (40 + i, 60, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    workdir = tmp_path / "run"
    flags = (
        *TINY,
        f"--workdir={workdir}",
        f"--config.data.root={tmp_path}",
        "--config.data.resize=32",
    )
    result = jaxseg(*flags, config="infoseg_folder")
    check_run(workdir, result, ("infoseg", "untrained", "colour_kmeans"), labelled=False)


@pytest.mark.slow
def test_camvid(tmp_path, real_data):
    workdir = tmp_path / "run"
    flags = (
        *TINY, f"--workdir={workdir}", f"--config.data.root={real_data('camvid')}",
        "--config.data.resize=32", "--config.data.test_resize=32",
        "--config.evals.untrained.fit_limit=8", "--config.evals.colour_kmeans.fit_limit=8",
    )  # fmt: skip
    result = jaxseg(*flags, config="infoseg_camvid")
    check_run(workdir, result, ("infoseg", "untrained", "colour_kmeans"))
    assert "367 training and 101 test images" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--config.optim.learnign_rate=1",),
            "config.optim.learnign_rate is not a field. Did you mean 'learning_rate'?",
        ),
        (("--config=configs/nope.py",), "--config: there is no file 'configs/nope.py'"),
        (
            ("--config.modle.tau=1",),
            "config.modle is not a field. The fields of 'config' are: data, ev",
        ),
        (("--config.data.crop=16",), "too small for InfoSeg: its map of (1, 1) cells"),
        (("--config.method.negatives=4",), "use a larger batch"),
        (("--config.method.bound=jds",), "method.bound is 'jds'; it is one of jsd, dv"),
        (("--config.data.batch_size=6",), "data.batch_size is 6, which 4 devices do not divide"),
        (("--mode=sweep_k", "--sweep_clusters=4,two"), "--sweep_clusters names 'two'"),
    ],
)
def test_what_a_user_gets_wrong_ends_in_one_message(tmp_path, flags, message):
    result = jaxseg(*SCENES, *flags, f"--workdir={tmp_path / 'run'}", devices=4)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_root_without_images(tmp_path, kind):
    root = tmp_path / kind
    if kind == "empty":
        root.mkdir()
    flags = (f"--config.data.root={root}", f"--workdir={tmp_path / 'run'}")
    result = jaxseg(*flags, config="infoseg_folder")
    assert result.returncode == 1
    assert str(root) in result.stderr
    assert "Traceback" not in result.stderr
