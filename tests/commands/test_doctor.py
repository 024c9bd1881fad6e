"""The doctor: a check for each thing that would stop or spoil a run, all of them at once."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxseg.build import batch_spec
from jaxseg.commands import doctor_room
from jaxseg.commands.doctor import Doctor
from jaxseg.commands.doctor_parts import OK, PROBLEM, WARNING, of_bytes
from jaxseg.core import State
from jaxseg.doctor import format_checks
from jaxseg.models.backbones import Backbone
from jaxseg.models.weights import write_weights
from jaxseg.sections import DataSection
from jaxseg.sharding import make_mesh

ROOT = pathlib.Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def config_of(name):
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"configs.{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def small(config):
    config.data.crop = 32
    config.data.batch_size = 8
    if "patch_widths" in config.method:
        config.method.patch_widths = config.method.global_widths = (4, 4, 4, 4, 4)
        config.method.global_widths = (4, 4, 4)
        config.method.features = 8
    return config


def scenes():
    config = small(config_of("infoseg_scenes"))
    config.data.size = config.data.test_crop = 32
    config.data.count = 8
    return config


def folder(root, name="infoseg_folder"):
    """A config on ten labelled photographs of two classes."""
    root.mkdir()
    for i in range(10):
        pixels = RNG.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.jpg", quality=90)
        label = (pixels[..., 0] > 127).astype(np.uint8)
        Image.fromarray(label).save(root / f"{i}_label.png")
    config = small(config_of(name))
    config.data.root = str(root)
    config.data.resize = 0
    config.data.class_names = ("sky", "road")
    return config


def examine(config, workdir, memory=False, seconds=60.0):
    doctor = Doctor(config, workdir, seconds, memory)
    return doctor, {(c.subject, c.status): c for c in doctor.checks}


def found(doctor, status):
    return [check for check in doctor.checks if check.status == status]


def test_a_healthy_config(tmp_path):
    doctor, checks = examine(scenes(), tmp_path / "run", memory=True)
    assert doctor.healthy
    assert not found(doctor, PROBLEM)
    assert not [c for c in found(doctor, WARNING) if c.subject != "memory"]
    assert "8 training and 8 test images, 500 steps of 8, 1 an epoch" in checks["batches", OK].text
    assert checks["evals.infoseg", OK].text == "8 clusters for 8 classes"
    assert "(an estimate)" in checks["memory", OK].text
    assert "checkpoints" in checks["disk", OK].text
    assert not (tmp_path / "run").exists()
    assert format_checks(doctor.checks).endswith("0 warnings, 0 problems")


def test_the_memory_of_a_step_is_that_of_what_it_holds():
    state = jax.eval_shape(
        lambda: State(step=jnp.int32(0), params={"a": jnp.zeros(1000)}, extra={}, frozen={})
    )

    def step(state, batch):
        dark = (255 - batch.image.astype(jnp.float32)).sum()
        return state.replace(step=state.step + 1), {"dark": dark}

    def taken(batch_size):
        spec = batch_spec(DataSection(name="folder", batch_size=batch_size, crop=64))
        return doctor_room.step_bytes(step, state, {"a": optax.adam(1.0)}, spec, make_mesh())

    devices, image = len(jax.devices()), 64 * 64 * 3
    few, many = taken(devices), taken(9 * devices)
    assert few >= image + 3 * 4 * 1000  # a device's image; the parameters and Adam's two moments
    # Eight more images, and what is made of them on the way, at most in float32.
    assert 8 * image <= many - few <= 6 * 8 * image


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    config = folder(tmp_path / "photos", "smooseg_folder")
    photo = tmp_path / "photos" / "3.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    (tmp_path / "photos" / "5_label.png").unlink()
    label = np.full((40, 48), 7, np.uint8)
    Image.fromarray(label).save(tmp_path / "photos" / "6_label.png")
    config.method.weights = str(tmp_path / "nowhere.safetensors")
    config.optim.learning_rte = 1.0
    config.data.batch_size = 64
    config.train.init_from = str(tmp_path / "no_run")
    config.evals.smooseg.label = "part"
    doctor, checks = examine(config, tmp_path / "run")
    assert not doctor.healthy
    problems = {c.subject: "" for c in found(doctor, PROBLEM)}
    for check in found(doctor, PROBLEM):
        problems[check.subject] += f"{check.text} {check.remedy}\n"
    assert "unreadable files: 1" in problems["data, 'all'"]
    assert "3.jpg: damaged or truncated" in problems["data, 'all'"].replace(str(tmp_path), "")
    assert "holds the value 7" in problems["data, 'all'"]
    assert "only 50 images; lower it" in problems["batches"]
    assert "no weights file" in problems["method.weights"]
    assert "Did you mean 'learning_rate'" in problems["step"]
    assert "holds no trained state" in problems["train.init_from"]
    assert checks["evals", WARNING].text.startswith("not checked, for want of")
    # What could be checked in spite of all that.
    assert ("devices", OK) in checks
    assert ("workdir", OK) in checks


def test_files_that_a_run_skips_are_no_problem(tmp_path):
    config = folder(tmp_path / "photos")
    photo = tmp_path / "photos" / "3.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    config.data.on_corrupt = "skip"
    doctor, _ = examine(config, tmp_path / "run")
    assert not found(doctor, PROBLEM)
    warnings = " ".join(check.text for check in found(doctor, WARNING))
    assert "unreadable files: 1" in warnings
    assert "training and test split are both" in warnings


def test_weights_of_another_architecture(tmp_path):
    config = folder(tmp_path / "photos", "smooseg_folder")
    config.method.backbone = "vit_test"
    config.evals = {}
    file = tmp_path / "weights.safetensors"
    config.method.weights = str(file)
    for arch, status, text in (
        ("resnet_tiny", PROBLEM, "does not fit this backbone"),
        ("vit_test", OK, "sha256"),
    ):
        write_weights(
            file, Backbone(arch).init(jax.random.key(0)), {"architecture": arch, "name": "test"}
        )
        _, checks = examine(config, tmp_path / "run", seconds=0.1)
        assert text in checks["method.weights", status].text
    file.write_bytes(file.read_bytes()[:-1])
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "damaged" in checks["method.weights", PROBLEM].text
    config.method.weights = ""
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "random weights" in checks["method.weights", WARNING].text


def test_what_an_evaluation_would_only_meet_at_the_end(tmp_path):
    config = scenes()
    config.data.train_split = "train"
    config.evals.few = dict(config.evals.untrained) | {"clusters": 3}
    config.evals.same = dict(config.evals.untrained) | {"clusters": 9, "matching": "identity"}
    config.evals.crf = dict(config.evals.infoseg) | {"refine": "crv"}
    _, checks = examine(config, tmp_path)
    assert "at least 5 classes get no cluster" in checks["evals.few", WARNING].remedy
    assert "as many of both" in checks["evals.same", PROBLEM].remedy
    assert "'crv'; it is one of" in checks["evals.crf", PROBLEM].text
    assert ("evals.infoseg", OK) in checks


def test_regions_that_are_missing_or_of_another_size(tmp_path):
    config = folder(tmp_path / "photos", "segsort_folder")
    config.method.backbone = "resnet_tiny"
    config.method.dim = 4
    config.evals = {}
    config.data.regions = str(tmp_path / "maps")
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "there is no folder" in checks["regions", PROBLEM].text
    (tmp_path / "maps").mkdir()
    for i in range(10):
        regions = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48) % 7
        Image.fromarray(regions).save(tmp_path / "maps" / f"{i}.png")
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "at most 7 of an image" in checks["regions", OK].text
    Image.fromarray(regions[:20]).save(tmp_path / "maps" / "9.png")
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "20 x 48" in checks["regions", PROBLEM].text
    assert ("step", OK) in checks


def test_too_little_disk_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(
        doctor_room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})()
    )
    monkeypatch.setattr(doctor_room, "host_bytes", lambda: 10_000)
    doctor, checks = examine(scenes(), tmp_path / "run" / "deep")
    assert str(tmp_path) in checks["disk", PROBLEM].text
    assert "free some space" in checks["disk", PROBLEM].remedy
    assert "data.cache=False" in checks["data.cache", PROBLEM].remedy
    assert not doctor.healthy
    assert of_bytes("x", "it takes", 90, 100, "it", "mend").status == WARNING
    assert of_bytes("x", "it takes", 90, None, "it", "mend").status == OK


def test_kept_features_are_counted(tmp_path):
    config = folder(tmp_path / "photos", "smooseg_folder")
    config.method.backbone = "vit_test"
    config.evals = {}
    config.data.tokens = str(tmp_path / "tokens")
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "data.tokens" in checks["disk", OK].text
    config.data.flip = True
    _, checks = examine(config, tmp_path / "run", seconds=0.1)
    assert "set data.flip=False" in checks["batches", PROBLEM].text


def test_the_command(tmp_path):
    """One process: JSON, and the exit status of a config with a problem."""
    command = [
        sys.executable, "-m", "jaxseg.doctor", "--config=configs/infoseg_folder.py",
        f"--config.data.root={tmp_path / 'nowhere'}", "--json", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    checks = json.loads(done.stdout)
    wrong = {check["subject"]: check["text"] for check in checks if check["status"] == "problem"}
    assert "there is no folder" in wrong["data, 'all'"]
    assert {check["subject"] for check in checks} >= {"method", "devices", "workdir"}
