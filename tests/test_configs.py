"""Every config builds: its fields are valid, complete, and give a step of the right shapes."""

import dataclasses
import importlib
import inspect
import pathlib

import jax
import pytest
from ml_collections import ConfigDict

from configs import segment_evals
from jaxseg import build
from jaxseg.core import UserError
from jaxseg.data import SOURCES
from jaxseg.evaluation.probes import PROBES
from jaxseg.methods import METHODS
from jaxseg.optim import make_optimiser
from jaxseg.sections import DataSection, EvalSection, TrainSection, call, divide, read_config
from jaxseg.sharding import make_mesh
from jaxseg.train import init_optimiser, make_step

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(
    p.stem for p in CONFIGS.glob("*.py") if "def get_config" in p.read_text(encoding="utf-8")
)


TRACED = set()


def load(name):
    return read_config(importlib.import_module(f"configs.{name}").get_config())


def switches(method):
    """What decides how a step is traced; of a real number, such as a weight, whether it is 0."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return switches(value)
        if isinstance(value, tuple):
            return tuple(map(plain, value))
        return value != 0 if isinstance(value, float) else value

    fields = dataclasses.fields(method)
    return type(method), *(plain(getattr(method, field.name)) for field in fields)


def test_there_are_configs():
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_the_step_has_the_shapes_of_its_state(name):
    sections = load(name)
    own, _ = divide(sections["data"], DataSection)
    data = call("data", DataSection, own)
    build.make_view(data)
    build.make_eval_view(data)
    train = call("train", TrainSection, sections["train"])
    method = build.make_method(sections["method"])
    labels = ("class",) if method.reads_labels else ()
    images, spec = build.batch_spec(data, labels), build.batch_spec(data, labels, method)
    state = jax.eval_shape(lambda key: method.init(key, images), jax.random.key(0))
    transforms = build.make_transforms(sections["optim"], state.params, max(train.steps, 1))
    state = jax.eval_shape(lambda s: init_optimiser(s, transforms), state)
    output = jax.eval_shape(lambda s, b: method.predict(s, b.first_view), state, images)
    assert output.features.shape[0] == data.batch_size
    kind = (switches(method), str(state), str(spec))
    if kind in TRACED:
        return
    TRACED.add(kind)
    step = make_step(method, transforms, jax.random.key(0))
    after, metrics = jax.eval_shape(step, state, spec)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_in_the_config_so_that_a_flag_can_set_it(name):
    sections = load(name)

    def fields(function, *given):
        return set(inspect.signature(function).parameters) - set(given)

    method = METHODS[sections["method"]["name"]]
    # What build reads for any method that has a backbone, or transformers.
    loaded = {"weights", "online_probes"} if "backbone" in fields(method) else set()
    loaded |= {"grouping_weights"} if "grouper" in fields(method) else set()
    assert set(sections["method"]) == {"name"} | loaded | fields(method)
    assert set(sections["optim"]) == {"groups"} | fields(make_optimiser, "steps")
    assert set(sections["train"]) == fields(TrainSection)
    data = fields(DataSection)
    if sections["data"]["name"] in SOURCES:
        data |= fields(SOURCES[sections["data"]["name"]], "split")
        assert set(sections["data"]) == data
    else:
        assert data < set(sections["data"])
    for values in sections["evals"].values():
        check_entry(values)


def check_entry(values):
    entry = {f.name for f in dataclasses.fields(EvalSection)}
    assert set(values) == entry | set(inspect.signature(PROBES[values["probe"]]).parameters)


def test_evaluations_of_segments():
    entries = segment_evals.scenes(ConfigDict(), "hsg", (8, 4)).evals.to_dict()
    section = {"name": "scenes", "batch_size": 1, "size": 32, "crop": 32, "count": 1}
    data = build.make_data(section, 0, make_mesh(jax.devices()[:1]), labels=False)
    for values in entries.values():
        check_entry(values)
    made = build.make_evaluators(entries, data, samples=1)
    kinds = [type(evaluator).__name__ for _, evaluator in made.values()]
    assert kinds.count("HierarchyEvaluator") == 4
    assert kinds.count("Evaluator") == 3
    wrong = entries["hsg_levels"] | {"labels": ("class", "object")}
    with pytest.raises(UserError, match=r"evals.a.labels is 'object'.* class, instance, part"):
        build.make_evaluators({"a": wrong}, data, samples=1)
