"""Runs on a frozen backbone: weights from a file, features kept on disk, probes beside a method."""

import importlib
import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg import thresholds
from jaxseg.commands.results import measured_rows
from jaxseg.core import UserError
from jaxseg.models.backbones import Backbone
from jaxseg.models.weights import read_weights, write_weights
from jaxseg.run import Run
from jaxseg.sharding import make_mesh
from jaxseg.workdir import training_in
from jaxseg.writer import read_metrics


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """A run on one device, as most users have; the mesh has tests of its own."""
    monkeypatch.setattr("jaxseg.run.make_mesh", lambda shards: make_mesh(jax.devices()[:1]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Returns a function from a seed to a weights file of the smallest backbone."""
    folder = tmp_path_factory.mktemp("weights")
    shapes = jax.eval_shape(Backbone("vit_test").init, jax.random.key(0))

    def write(seed):
        path = folder / f"{seed}.safetensors"
        if not path.exists():
            rng = np.random.default_rng(seed)
            tree = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes)
            tree |= {name: np.full(3, 0.5, np.float32) for name in ("mean", "std")}
            write_weights(path, tree, {"architecture": "vit_test", "name": f"seed {seed}"})
        return str(path)

    return write


def make_config(method="smooseg", **method_fields) -> ConfigDict:
    config = importlib.import_module(f"configs.{method}_scenes").get_config()
    config.method.update(backbone="vit_test", dim=8)
    config.method.update(method_fields)
    config.data.update(size=32, count=8, crop=32, resize=32, test_crop=32, batch_size=4, threads=1)
    config.train.update(steps=2, samples=1, log_every=1, monitor_every=2, save_every=2)
    config.evals = ConfigDict({name: config.evals[name] for name in (method, "backbone_kmeans")})
    config.evals.backbone_kmeans.update(points=200, rounds=2, restarts=1, fit_limit=4)
    return config


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


def test_weights_come_from_the_file_and_a_run_keeps_to_them(tmp_path, weights):
    config = make_config(weights=weights(1))
    run = Run(config, tmp_path / "run")
    backbone = run.untrained.frozen["backbone"]
    jax.tree.map(np.testing.assert_array_equal, backbone, read_weights(weights(1))[0])
    assert "seed 1 (vit_test" in run.describe()
    assert run.fit()
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    (shares,) = (row[name] for row in rows if (name := "monitor/delta_histogram") in row)
    assert len(shares) == 50
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    names = {result.name for result in run.evaluate()}
    assert names == {"smooseg", "backbone_kmeans"}
    (row,) = (row for row in measured_rows(tmp_path / "run") if row["method"] == "smooseg")
    assert row["backbone"] == "vit_test, frozen"
    (weights_read,) = run.weights
    assert row["weights"] == f"seed 1 ({weights_read.sha256[:8]})"
    # The file may move, its contents may not change.
    shutil.copy(weights(1), tmp_path / "moved")
    Run(make_config(weights=str(tmp_path / "moved")), tmp_path / "run")
    with pytest.raises(UserError, match=r"method.weights_sha256: '\w+' there, '\w+' here"):
        Run(make_config(weights=weights(2)), tmp_path / "run")
    Run(make_config(weights=weights(1)), tmp_path / "run", "evaluate")
    for other in (weights(2), ""):
        with pytest.raises(UserError, match=r"method.weights_sha256: '\w+' there, '\w+' here"):
            Run(make_config(weights=other), tmp_path / "run", "evaluate")


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("smooseg", {"weights": "nope.safetensors"}, "no weights file nope.safetensors"),
        ("smooseg", {"backbone": "vit_tiny_16"}, r"vit_test\) does not fit this backbone. Missing"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, weights, method, fields, message):
    config = make_config(method, **({"weights": weights(1)} | fields))
    with pytest.raises(UserError, match=message):
        Run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_method_without_a_backbone_has_no_use_for_weights(tmp_path, weights):
    config = importlib.import_module("configs.infoseg_scenes").get_config()
    config.method.update(features=8, patch_widths=(4,) * 5, global_widths=(4,) * 3)
    config.data.update(size=32, count=4, crop=32, test_crop=32, batch_size=4)
    for field, part in (("weights", "backbone"), ("grouping_weights", "grouping")):
        with config.unlocked():
            config.method[field] = weights(1)
        message = rf"method\.{field} is .*, but the method has no {part}"
        with pytest.raises(UserError, match=message):
            Run(config, tmp_path / "run")
        config.method[field] = ""
    config.data.tokens = str(tmp_path / "tokens")
    with pytest.raises(UserError, match="InfoSeg learns its features"):
        Run(config, tmp_path / "run")


def test_training_on_kept_features_is_training_on_images(tmp_path, weights):
    computed = Run(make_config(weights=weights(1)), tmp_path / "computed")
    with training_in(tmp_path / "computed"), pytest.raises(UserError, match="another run trains"):
        computed.fit()
    assert computed.fit()
    config = make_config(weights=weights(1))
    config.data.tokens = str(tmp_path / "tokens")
    kept = Run(config, tmp_path / "kept")
    batch = next(kept.data.pipeline.batches(0))
    assert batch.image is None
    assert batch.tokens.shape == (4, 1, 4, 4, 48)
    assert kept.fit()
    # Features are kept in half precision.
    np.testing.assert_allclose(losses(tmp_path / "kept"), losses(tmp_path / "computed"), rtol=2e-3)
    shards = (tmp_path / "tokens").rglob
    files = {p: p.stat().st_mtime_ns for p in shards("tokens-*.npy")}
    # Another method on the same backbone and crops reads the same features, in batches of its own.
    other = make_config("stego", weights=weights(1), points=3, negatives=1)
    other.data.update(tokens=config.data.tokens, partners=2, batch_size=8)
    Run(other, tmp_path / "other")
    assert files == {p: p.stat().st_mtime_ns for p in shards("tokens-*.npy")}
    changed = make_config(weights=weights(2))
    changed.data.tokens = config.data.tokens
    Run(changed, tmp_path / "changed")
    assert len(list(shards("tokens-*.npy"))) == 2 * len(files)


def test_views_at_random_have_no_features_to_keep(tmp_path):
    config = make_config()
    config.data.update(tokens=str(tmp_path / "tokens"), flip=True)
    with pytest.raises(UserError, match=r"set data.flip=False, or leave data.tokens empty"):
        Run(config, tmp_path / "run")


def test_partners_are_the_same_with_and_without_kept_features(tmp_path, weights):
    found = []
    for tokens in ("", str(tmp_path / "tokens")):
        config = make_config("stego", weights=weights(1), points=3, negatives=1)
        config.data.update(partners=2, tokens=tokens)
        run = Run(config, tmp_path / f"run{len(found)}")
        found.append(run.data.pipeline.partners)
        assert run.fit()
    assert found[0].shape == (8, 2)
    np.testing.assert_array_equal(*found)
    config.data.partners = 8
    with pytest.raises(UserError, match="an image has only 7 others"):
        Run(config, tmp_path / "many")


def test_probes_beside_a_method_change_nothing_but_say_what_labels_would_give(tmp_path, weights):
    plain = Run(make_config(weights=weights(1)), tmp_path / "plain")
    assert plain.fit()
    config = make_config(weights=weights(1))
    config.method.online_probes = ConfigDict({"classes": 8, "clusters": 4})
    entry = config.evals.smooseg.copy_and_resolve_references()
    entry.update(source="linear_probe", matching="identity")
    config.evals.linear = entry
    config.data.update(regions="graph", regions_limit=9)  # which it does not read
    run = Run(config, tmp_path / "probes")
    assert "SmooSeg with OnlineProbes on scenes" in run.describe()
    assert "Regions: graph-based over-segmentation of each image, at most 9 of" in run.describe()
    assert run.fit()
    # The two programs differ, and so may the order of their sums.
    first, second = (losses(tmp_path / name) for name in ("plain", "probes"))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    supervised = {result.name: result.supervised for result in run.evaluate()}
    assert supervised == {"smooseg": False, "linear": True, "backbone_kmeans": False}
    for state in (plain, run):
        state.trained = state.final.restore(state.untrained)[0]
    teachers = (state.trained.extra["teacher"] for state in (plain, run))
    np.testing.assert_allclose(*teachers, rtol=1e-4, atol=1e-5)


def test_thresholds_are_searched_without_labels(tmp_path, weights):
    config = make_config(weights=weights(1))
    config.method.online_probes = ConfigDict({"classes": 8, "clusters": 0})
    grid = (0.1,), (0.3, 0.5)
    found = thresholds.search(config, tmp_path, 2, *grid)
    assert [(t.beta_within, t.beta_across) for t in found.trials] == [(0.1, 0.3), (0.1, 0.5)]
    assert all(np.isfinite(t.bimodality) and t.clusters == 8 for t in found.trials)
    stored = json.loads((tmp_path / "within0.1_across0.3" / "config.json").read_text())
    assert stored["method"]["beta_across"] == 0.3
    assert stored["method"]["online_probes"] is None
    assert stored["evals"] == {}
    # What is there is not trained again.
    again = thresholds.search(config, tmp_path, 2, *grid)
    assert again.trials == found.trials
    other = importlib.import_module("configs.infoseg_scenes").get_config()
    with pytest.raises(UserError, match="is for the method smooseg, not 'infoseg'"):
        thresholds.search(other, tmp_path, 2)
