"""Both ways of --mode=sweep_k from a config to its files, with methods of a few numbers."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.core import Output, UserError
from jaxseg.methods import METHODS
from jaxseg.run import Run
from jaxseg.sweep import command, training
from jaxseg.sweep.measures import Settings
from jaxseg.sweep.rule import CRITERIA
from tests.toy import Toy

SETTINGS = Settings(clusters=(2, 3), seeds=2, steps=2, judged=60, fitted=40, references=2)


@dataclasses.dataclass(frozen=True)
class Colours(Toy):
    """Has no classifier: its features are the colours of pixels."""

    def predict(self, state, image):
        return Output(features=image[:, ::4, ::4].astype(jnp.float32) / 255)


@dataclasses.dataclass(frozen=True)
class Stripes(Toy):
    """Cuts each image into K stripes whatever it shows; with `lost` of them all are one cluster."""

    clusters: int = 2
    lost: int = 0
    reads: bool = False

    @property
    def reads_labels(self):
        return self.reads

    def predict(self, state, image):
        cells = image[:, ::4, ::4].astype(jnp.float32) / 255
        column = jnp.arange(cells.shape[2]) * (0 if self.clusters == self.lost else self.clusters)
        stripe = jax.nn.one_hot(column // cells.shape[2], self.clusters)
        logits = jnp.broadcast_to(stripe[None, None], (*cells.shape[:3], self.clusters))
        return Output(features=cells, logits=logits)


def make_config(name, **method) -> ConfigDict:
    own = {"probe": "cluster", "clusters": 9, "rounds": 5, "restarts": 1}
    return ConfigDict(
        {
            "method": {"name": name, **method},
            "data": {
                "name": "scenes", "size": 32, "count": 12, "batch_size": 8, "crop": 32,
                "test_crop": 32, "cache": True,
            },
            "optim": {"name": "sgd", "learning_rate": 0.1, "groups": {}},
            "train": {"steps": 2, "seed": 3},
            "evals": {
                "own": own, "drawn": own | {"model": "untrained"},
                "euclidean": own | {"metric": "euclidean"},
            },
        }
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _methods(monkeypatch):
    monkeypatch.setitem(METHODS, "colours", Colours)
    monkeypatch.setitem(METHODS, "stripes", Stripes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("probed") / "run"
    METHODS["colours"] = Colours
    Run(make_config("colours"), workdir).fit()
    del METHODS["colours"]
    return workdir


def read(workdir):
    picture = np.asarray(Image.open(workdir / "report" / "sweep_k.png").convert("RGB"))
    assert picture.std() > 10
    return json.loads((workdir / "sweep_k.json").read_text())


def test_a_finished_run_is_probed(trained):
    found = command.sweep_config(make_config("colours"), trained, SETTINGS)
    record = read(trained)
    assert record["recommended"] == found.best
    assert [t["clusters"] for t in record["trials"]] == [2, 3]
    protocol = record["protocol"]
    assert protocol["entry"] == "own"
    assert protocol["method"] == "Colours"
    assert (protocol["images_judged"], protocol["images_of_each_seed"]) == (6, [3, 3])
    assert (protocol["cells_judged"], protocol["cells_of_each_seed"]) == (60, 40)
    assert (protocol["rounds"], protocol["restarts"], protocol["seed"]) == (5, 1, 3)
    again = command.sweep_config(make_config("colours"), trained, SETTINGS)
    assert again == found
    of_drawn = dataclasses.replace(SETTINGS, entry="drawn")
    # It has learned nothing, and its features are the same colours.
    assert command.sweep_config(make_config("colours"), trained, of_drawn) == found
    assert read(trained)["protocol"]["model"] == "untrained"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"entry": "nope"}, "--sweep_entry is 'nope'; it is one of drawn, euclidean, own"),
        ({"entry": "euclidean"}, "metric='spherical'"),
        ({"seeds": 7}, "12 training images are too few for 7 seeds"),
        ({"clusters": (2, 41)}, "K = 41, but each seed has 40 cells"),
    ],
)
def test_what_cannot_be_probed(trained, fields, message):
    with pytest.raises(UserError, match=message):
        command.sweep_config(
            make_config("colours"), trained, dataclasses.replace(SETTINGS, **fields)
        )


def test_without_features_to_cluster(trained):
    config = make_config("colours")
    config.evals = ConfigDict({"drawn": config.evals.drawn})
    with pytest.raises(UserError, match="nothing to sweep over"):
        command.sweep_config(config, trained, SETTINGS)


def test_a_method_with_its_own_k_is_trained(tmp_path, monkeypatch, capsys):
    config = make_config("stripes", lost=3)
    place = training.trial_place(tmp_path / "sweep_k", 2, 0)
    Run(training.trial_config(config, SETTINGS.steps, 2, 0), place).fit()
    fits = []
    monkeypatch.setattr(Run, "fit", functools.partialmethod(_counted, Run.fit, fits))
    found = command.sweep_config(config, tmp_path, SETTINGS)
    # The one that was there is not trained again.
    assert fits == ["clusters2_seed1", "clusters3_seed0", "clusters3_seed1"]
    assert capsys.readouterr().out.startswith("K = 2: silhouette ")
    # Stripes are the same whatever the seed, and of the widths that they were cut in.
    two, three = found.trials
    assert two.found["stability"] == 1
    assert two.effective_clusters == pytest.approx(2, abs=0.05)
    assert np.isnan(three.found["silhouette"])
    assert [trial.collapsed for trial in found.trials] == [False, True]
    record = read(tmp_path)
    assert record["protocol"]["way"].startswith("train")
    assert record["protocol"]["images_judged"] == 12
    assert set(record["trials"][0]["references"]) == set(CRITERIA)
    stored = json.loads((tmp_path / "sweep_k" / fits[-1] / "config.json").read_text())
    assert (stored["method"]["clusters"], stored["train"]["seed"]) == (3, 4)
    assert (stored["train"]["steps"], stored["evals"]) == (2, {})
    assert config.method.to_dict() == {"name": "stripes", "lost": 3}


def _counted(self, fit, fits):
    fits.append(self.workdir.name)
    return fit(self)


def test_a_method_that_reads_labels_is_refused(tmp_path):
    with pytest.raises(UserError, match="stripes learns from labels"):
        command.sweep_config(make_config("stripes", reads=True), tmp_path, SETTINGS)


def test_the_numbers_of_the_flag():
    assert command.parse_clusters(["8", "2", " 8"]) == (2, 8)
    with pytest.raises(UserError, match="--sweep_clusters names 'two'"):
        command.parse_clusters(["2", "two"])
