"""What a config may hold, and what is said of what it may not."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg import build
from jaxseg.checkpoint import Checkpoints
from jaxseg.core import State, UserError
from jaxseg.data import coco_classes
from jaxseg.run import Run
from jaxseg.sections import EvalSection, TrainSection, call, read_config
from jaxseg.sharding import make_mesh, place
from jaxseg.workdir import claim_workdir, init_from, training_in

SMALL = {"name": "scenes", "batch_size": 4, "size": 32, "crop": 32, "count": 8, "test_crop": 32}


def make_data(**fields):
    return build.make_data(SMALL | fields, 0, make_mesh(jax.devices()[:1]), labels=False)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: make_data(btach_size=3), "data.btach_size is not a field. Did you mean 'batch_s"),
        (lambda: make_data(name="scene"), "data.name is 'scene'; it is one of .*camvid, .*scenes"),
        (lambda: make_data(channels=4), "data.channels is 4; 'scenes' has 3"),
        (lambda: make_data(scale=(2.0, 1.0)), r"section 'data' .*scale must be \(low, high\)"),
        (
            lambda: build.make_method({"name": "infoseg", "clusters": 3, "tua": 1.0}),
            "method.tua is not a field. Did you mean 'tau'?",
        ),
        (lambda: build.make_method({"name": "infoseg"}), "method.clusters is missing"),
        (lambda: build.make_method({"name": "info"}), "method.name is 'info'; it is one of"),
        (
            lambda: build.make_transforms({"lr": 1.0}, {"net": 0}, 10),
            "optim.lr is not a field.*accumulate, bias_rate, clip",
        ),
        (
            lambda: call("train", TrainSection, {"select": "best_miou"}),
            "train.select is 'best_miou'",
        ),
        (
            lambda: call("train", TrainSection, {"steps": 3, "epochs": 1}),
            "train.steps is 3 and train.epochs 1; set one of them",
        ),
        (
            lambda: call("train", TrainSection, {"steps": 3, "save_every": 0}),
            "train.save_every is 0; it must be at least 1",
        ),
        (lambda: make_data(views=0), "data.views is 0; it must be at least 1"),
        (lambda: make_data(scale=(1.0,)), "data.scale is"),
        (
            lambda: make_data(regions="grahp"),
            "data.regions is 'grahp', which is neither 'graph' nor 'stored': there is no folder",
        ),
        (lambda: make_data(regions="stored"), "data.regions is 'stored', but the training images"),
        (lambda: make_data(regions="graph", regions_limit=0), "data.regions_limit is 0"),
        (lambda: make_data(regions="graph", tokens="x"), "data.regions is 'graph' and data.tokens"),
        (
            lambda: build.make_method({"name": "infoseg", "clusters": 0}),
            "method.clusters is 0; it must be at least 1",
        ),
        (
            lambda: build.make_evaluators({"a": {"model": "untraned"}}, make_data(), 2),
            "evals.a.model is 'untraned'; it is one of colour, contours, trained, untrained",
        ),
        (
            lambda: build.make_evaluators({"a": {"label": "clas"}}, make_data(), 2),
            "evals.a.label is 'clas'; it is one of class, part",
        ),
        (
            lambda: build.make_evaluators({"a": {"probe": "argmax", "k": 3}}, make_data(), 2),
            "evals.a.k is not a field",
        ),
        (
            lambda: build.make_evaluators({"a": {"probe": "linaer"}}, make_data(), 2),
            "evals.a.probe is 'linaer'; it is one of",
        ),
        (
            lambda: build.make_evaluators({"a": {"resolution": "original"}}, make_data(), 2),
            "evals.a.resolution is 'original', but test images are cropped; set data.test_crop=0",
        ),
        (
            lambda: read_config(ConfigDict({"method": {"name": "x"}, "modle": {}})),
            "config.modle is not a field",
        ),
        (lambda: read_config(ConfigDict({"method": {"a": 1}})), "no section 'data'"),
    ],
)
def test_errors_name_the_field_and_what_is_valid(function, message):
    with pytest.raises(UserError, match=message):
        function()


@pytest.mark.parametrize("fields", [{}, {"regions": "graph"}])
def test_the_abstract_batch_is_that_of_the_pipeline(fields):
    data = make_data(views=2, **fields)
    spec = build.batch_spec(data.section)
    batches = data.pipeline.batches(0)
    batch = next(batches)
    batches.close()
    assert jax.tree.map(lambda x: (x.shape, x.dtype), spec) == jax.tree.map(
        lambda x: (x.shape, x.dtype), batch
    )


def test_evaluations_do_not_wait_for_regions():
    data = make_data(regions="graph", five_crop=True, size=64)
    assert data.regions == (
        "Regions: graph-based over-segmentation of each image, at most 48 of one"
    )
    assert (len(data.train), data.train[7].regions) == (40, None)
    made = data.pipeline.source[7]
    np.testing.assert_array_equal(made.image, data.train[7].image)
    assert made.regions.shape == (32, 32)
    assert make_data().regions == ""


def test_things_are_named_or_known_of_the_27_classes_of_coco():
    section = EvalSection()
    assert build.things_of("a", section, coco_classes.COARSE) == tuple(range(12))
    assert build.things_of("a", section, ("sky", "car")) == ()
    named = EvalSection(things=("car",))
    assert build.things_of("a", named, ("sky", "car")) == (1,)
    assert build.things_of("a", named, ()) == ()  # no labels, no scores
    with pytest.raises(UserError, match=r"evals.a.things names 'car'.*classes are sky, sea"):
        build.things_of("a", named, ("sky", "sea"))


def sections(**train):
    return {"method": {"name": "infoseg", "tau": 0.8}, "train": {"steps": 3, **train}, "data": {}}


def test_a_workdir_belongs_to_its_config(tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match="holds no run to evaluate"):
        claim_workdir(workdir, sections(), "evaluate")
    claim_workdir(workdir, sections(steps=2), "train")
    # Nothing has been trained yet, so that the mended config takes the place of the first.
    claim_workdir(workdir, sections(), "train")
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.save(make_state(2, 0.0))
    checkpoints.close()
    claim_workdir(workdir, sections(), "train")
    claim_workdir(workdir, sections(log_every=7), "train")
    with pytest.raises(UserError, match=r"train.steps: 3 there, 4 here(.|\n)*another --workdir"):
        claim_workdir(workdir, sections() | {"train": {"steps": 4}}, "train")
    claim_workdir(workdir, sections() | {"optim": {"name": "adam"}}, "train")
    found = claim_workdir(workdir, sections() | {"train": {"steps": 4}}, "evaluate")
    assert found == sections()
    other = sections() | {"method": {"name": "infoseg", "tau": 0.9}}
    with pytest.raises(UserError, match=r"method.tau: 0.8 there, 0.9 here"):
        claim_workdir(workdir, other, "evaluate")
    assert json.loads((workdir / "config.json").read_text()) == sections()


def make_state(width, value, groups=("net", "head")):
    params = {g: {"w": jnp.full((width,), value), "b": jnp.full((2,), value)} for g in groups}
    return State(
        step=jnp.zeros((), jnp.int32), params=params, extra={"mean": jnp.full(3, value)}, frozen={}
    )


def test_starting_from_another_run_says_what_it_took(tmp_path):
    final = Checkpoints(tmp_path / "final", keep=1)
    final.save(make_state(4, 1.0))
    final.close()
    state, lines = init_from(make_state(5, 0.0, ("net", "new")), str(tmp_path), ())
    np.testing.assert_array_equal(state.params["net"]["b"], 1)
    np.testing.assert_array_equal(state.params["net"]["w"], np.zeros(5))
    np.testing.assert_array_equal(state.extra["mean"], 1)
    np.testing.assert_array_equal(state.params["new"]["b"], 0)
    text = "\n".join(lines)
    assert "left as drawn: new" in text
    assert "net, 1 arrays" in text
    assert "did not fit: net['w']: here (5,), there (4,)" in text
    only, _ = init_from(make_state(4, 0.0), str(tmp_path), ("head",))
    np.testing.assert_array_equal(only.params["head"]["w"], 1)
    np.testing.assert_array_equal(only.params["net"]["w"], 0)
    np.testing.assert_array_equal(only.extra["mean"], 0)


def test_starting_from_nothing(tmp_path):
    with pytest.raises(UserError, match="holds no trained state"):
        init_from(make_state(4, 0.0), str(tmp_path), ())


def test_starting_from_a_run_that_is_not_finished(tmp_path):
    """Written on four devices, read on one."""
    Checkpoints(tmp_path / "final").close()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(place(make_state(4, 2.0), make_mesh(jax.devices()[:4])))
    checkpoints.close()
    state, _ = init_from(make_state(4, 0.0), str(tmp_path), ())
    np.testing.assert_array_equal(state.params["net"]["w"], np.full(4, 2.0))


def test_a_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is or lies in a file"), training_in(tmp_path / "file"):
        pass


def test_a_group_that_is_not_there(tmp_path):
    final = Checkpoints(tmp_path / "final", keep=1)
    final.save(make_state(4, 1.0))
    final.close()
    with pytest.raises(UserError, match=r"init_groups names 'backbone'"):
        init_from(make_state(4, 0.0), str(tmp_path), ("backbone",))


@pytest.mark.parametrize("name", ["picie", "deepcluster"])
def test_a_method_that_learns_from_refits_must_have_some(tmp_path, name):
    method = {"name": name, "clusters": 3, "online_probes": {"classes": 2}}
    config = ConfigDict({"method": method, "data": SMALL, "train": {"steps": 2}})
    with pytest.raises(UserError, match=r"train.refit_every is 0, but \w+ with OnlineProbes"):
        Run(config, tmp_path)
    del config.method.online_probes
    config.train.refit_every = -1
    config.data.btach_size = 1
    with pytest.raises(UserError, match="btach_size"):  # it comes as far as the data
        Run(config, tmp_path)
