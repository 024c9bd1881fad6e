"""The only reader of ConfigDict: its sections become keyword arguments.

A section is `method`, `data`, `optim`, `train` or `evals`. Its valid keys are the fields of what it
builds; any other key is an error that names them. The records below are the fields of the sections
that no single object stands for.
"""

import dataclasses
import difflib
import inspect
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxseg.checkpoint import Checkpoints, latest_step
from jaxseg.core import Array, Batch, Method, PyTree, State, UserError
from jaxseg.data import SOURCES
from jaxseg.data.cache import Cached
from jaxseg.data.pipeline import Pipeline
from jaxseg.data.source import Source
from jaxseg.evaluate import Evaluator
from jaxseg.evaluation.probes import PROBES
from jaxseg.methods import METHODS
from jaxseg.methods.colour import Colour
from jaxseg.optim import make_optimiser
from jaxseg.train import Transforms
from jaxseg.views.geometry import EvalView, TrainView
from jaxseg.writer import write_atomic

SECTIONS = ("method", "data", "optim", "train", "evals")
SELECTIONS = ("last", "lowest_loss")

# What an entry of `evals` may score: this run's network, trained or as drawn, or a method that has
# nothing to learn.
MODELS: dict[str, type[Method] | None] = {"trained": None, "untrained": None, "colour": Colour}

# What may differ between the runs that share a work directory: it changes no trained number.
MAY_CHANGE = (
    "data.cache", "data.threads", "data.workers", "data.prefetch", "data.test_split",
    "data.test_resize", "data.test_side", "data.test_scale", "data.test_crop",
    "data.test_pad_multiple", "data.test_interpolation", "train.log_every", "train.save_every",
    "train.keep", "train.monitor_every", "train.evaluate_every", "train.samples", "evals",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DataSection:
    """The fields of `data` that every data set has; the others are those of its source."""

    name: str  # which source: a key of SOURCES
    batch_size: int  # images in a global batch
    channels: int = 3  # 3 = RGB, 4 = with infrared
    views: int = 1  # views of an image in a training batch
    resize: int = 0  # training: shorter side in pixels; 0 = as it is
    crop: int = 128  # training: side of the square random crop
    scale: tuple[float, float] = (1.0, 1.0)  # training: random scale before the crop
    flip: bool = True  # training: mirror half of the views
    position: str = "random"  # training: where the crop lies, "random" or "centre"
    # Where an image smaller than a crop lies in it: "corner", or "centre" of zeros that count as
    # image (IIC).
    padding: str = "corner"
    test_resize: int = 0  # evaluation: shorter side in pixels; 0 = as it is
    test_side: str = "shorter"  # evaluation: the side that test_resize sets, or "longer"
    test_scale: float = 1.0  # evaluation: factor of both sides after test_resize
    test_crop: int = 0  # evaluation: side of the square centre crop; 0 = the whole image
    test_pad_multiple: int = 32  # evaluation of whole images: sides are padded to multiples of it
    # Of images: "bilinear" (Pillow's, which averages when it shrinks), "linear" (OpenCV's, which
    # does not) or "nearest"; labels are always "nearest".
    interpolation: str = "bilinear"
    test_interpolation: str = ""  # evaluation; "" = as in training
    train_split: str = "train"
    test_split: str = "val"
    cache: bool = False  # keep decoded examples in memory
    threads: int = 2  # reading threads
    workers: int = 0  # reading processes; 0 = threads alone
    prefetch: int = 4  # batches ready on the host

    def __post_init__(self):
        _check_range(
            "data", self, batch_size=1, views=1, resize=0, crop=1, test_resize=0, test_crop=0,
            test_pad_multiple=0, threads=1, workers=0, prefetch=1,
        )  # fmt: skip
        if self.channels not in (3, 4):
            raise UserError(f"data.channels is {self.channels}; it is 3 (RGB) or 4 (and infrared).")
        if len(self.scale) != 2:
            raise UserError(f"data.scale is {self.scale}; it is (lowest, highest).")


@dataclasses.dataclass(frozen=True)
class TrainSection:
    """The fields of `train`."""

    seed: int = 0
    steps: int = 0  # optimiser steps; 0 = as many as `epochs` says
    epochs: int = 0  # passes over the training split, where `steps` is 0
    refit_every: int = 0  # steps between refits of the method; 0 = never
    select: str = "last"  # the state used at the end: "last" or "lowest_loss" (mean of an epoch)
    max_nonfinite: int = 5  # skipped steps in a row that stop the run
    log_every: int = 20  # steps between lines of metrics
    save_every: int = 500  # steps between checkpoints
    keep: int = 2  # checkpoints kept
    monitor_every: int = 100  # steps between looks at the collapse monitor; 0 = never
    evaluate_every: int = 0  # steps between evaluations of the trained model; 0 = at the end alone
    samples: int = 8  # test images shown in pictures
    init_from: str = ""  # work directory of another run to start from
    init_groups: tuple[str, ...] = ()  # which of its groups (and "extra"); () = all that fit

    def __post_init__(self):
        _check_range(
            "train", self, seed=0, steps=0, epochs=0, refit_every=0, max_nonfinite=1, log_every=1,
            save_every=1, keep=1, monitor_every=0, evaluate_every=0, samples=1,
        )  # fmt: skip
        if self.select not in SELECTIONS:
            raise UserError(f"train.select is {self.select!r}; it is one of {SELECTIONS}.")
        if bool(self.steps) == bool(self.epochs):
            raise UserError(
                f"train.steps is {self.steps} and train.epochs {self.epochs}; set one of them and "
                "leave the other at 0."
            )


@dataclasses.dataclass(frozen=True)
class EvalSection:
    """The fields of one entry of `evals`; the others are those of its probe."""

    model: str = "trained"  # a key of MODELS
    probe: str = "argmax"  # a key of PROBES
    label: str = "class"  # which label map is scored
    upsample: str = "bilinear"  # logits to label resolution: "bilinear" or "nearest"
    fit_limit: int = 0  # images that the probe is fitted on, spread over the split; 0 = all


def _check_range(section: str, record: Any, **lowest: int) -> None:
    """Raises UserError for the first field of a record that lies below its lowest value."""
    for field, least in lowest.items():
        if (value := getattr(record, field)) < least:
            raise UserError(f"{section}.{field} is {value}; it must be at least {least}.")


def call(section: str, function: Callable, values: Mapping[str, Any], **given: Any) -> Any:
    """Returns function(**values, **given) for the values of a config section.

    Raises:
        UserError: a key that the function has no parameter for, or one that is missing.
    """
    parameters = inspect.signature(function).parameters
    valid = [name for name in parameters if name not in given]
    check_keys(section, values, valid)
    for name in valid:
        if parameters[name].default is inspect.Parameter.empty and name not in values:
            raise UserError(f"{section}.{name} is missing from the config; set it.")
    try:
        return function(**values, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"The section {section!r} of the config: {error}") from error


def check_keys(section: str, values: Iterable[str], valid: Iterable[str]) -> None:
    """Raises UserError for the first key that is not valid; names all that are."""
    valid = sorted(valid)
    for key in values:
        if key not in valid:
            near = difflib.get_close_matches(key, valid, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"{section}.{key} is not a field.{hint} The fields of {section!r} are: "
                f"{', '.join(valid)}."
            )


def pick(field: str, name: str, registry: Mapping[str, Any]) -> Any:
    """Returns registry[name]; raises UserError naming the valid names."""
    if name not in registry:
        raise UserError(f"{field} is {name!r}; it is one of {', '.join(sorted(registry))}.")
    return registry[name]


def read_config(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Returns the config's sections as plain dicts; raises UserError for an unknown section."""
    sections = config.to_dict()
    check_keys("config", sections, SECTIONS)
    for name in ("method", "data", "train"):
        if not sections.get(name):
            raise UserError(f"The config has no section {name!r}; a run needs one.")
    return {name: dict(sections.get(name) or {}) for name in SECTIONS}


def make_method(values: Mapping[str, Any]) -> Method:
    """Returns the method of the section `method`, whose key `name` says which."""
    values = dict(values)
    return call("method", pick("method.name", values.pop("name", ""), METHODS), values)


def _divide(values: Mapping[str, Any], record: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits values into those that are fields of the record and the rest."""
    names = {field.name for field in dataclasses.fields(record)}
    own = {k: v for k, v in values.items() if k in names}
    return own, {k: v for k, v in values.items() if k not in names}


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a run: its pipeline (over the training split) and the test split."""

    section: DataSection
    pipeline: Pipeline
    test: Source


def make_data(values: Mapping[str, Any], seed: int, mesh: Mesh, labels: bool) -> Data:
    """Returns the data of the section `data`; opens and checks both splits."""
    own, rest = _divide(values, DataSection)
    section = call("data", DataSection, own)
    opener = pick("data.name", section.name, SOURCES)
    parameters = inspect.signature(opener).parameters
    names = [f.name for f in dataclasses.fields(DataSection)]
    check_keys("data", rest, {*names, *parameters} - {"split"})
    if "channels" in parameters:
        rest["channels"] = section.channels
    elif section.channels != 3:
        raise UserError(f"data.channels is {section.channels}; {section.name!r} has 3.")
    splits = {
        split: call("data", opener, rest, split=split)
        for split in dict.fromkeys((section.train_split, section.test_split))
    }
    if section.cache:
        splits = {split: Cached(source) for split, source in splits.items()}
    pipeline = Pipeline(
        source=splits[section.train_split],
        view=make_view(section),
        eval_view=make_eval_view(section),
        batch_size=section.batch_size,
        seed=seed,
        mesh=mesh,
        views=section.views,
        threads=section.threads,
        workers=section.workers,
        prefetch=section.prefetch,
        labels=labels,
    )
    return Data(section, pipeline, splits[section.test_split])


def make_view(section: DataSection) -> TrainView:
    """Returns the geometry of training views."""
    fields = ("crop", "resize", "scale", "flip", "interpolation", "position", "padding")
    return call("data", TrainView, {field: getattr(section, field) for field in fields})


def make_eval_view(section: DataSection) -> EvalView:
    """Returns the geometry of test images."""
    values = {
        "resize": section.test_resize,
        "crop": section.test_crop,
        "pad_multiple": 0 if section.test_crop else section.test_pad_multiple,
        "interpolation": section.test_interpolation or section.interpolation,
        "side": section.test_side,
        "scale": section.test_scale,
        "padding": section.padding,
    }
    return call("data", EvalView, values)


def batch_spec(section: DataSection) -> Batch:
    """Returns the abstract training batch of a data section, without reading any data."""

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((section.batch_size, *shape), dtype)

    crop, views = section.crop, section.views
    return Batch(
        index=array(jnp.int32),
        seed=array(jnp.uint32),
        image=array(jnp.uint8, views, crop, crop, section.channels),
        size=array(jnp.int32, views, 2),
        box=array(jnp.float32, views, 5),
    )


def make_transforms(values: Mapping[str, Any], params: PyTree, steps: int) -> Transforms:
    """Returns one optax transformation for each group of parameters."""
    transform = call("optim", make_optimiser, values, steps=steps)
    return dict.fromkeys(params, transform)


def make_evaluators(
    sections: Mapping[str, Mapping[str, Any]], data: Data, samples: int
) -> dict[str, tuple[EvalSection, Evaluator]]:
    """Returns the evaluators of the section `evals` by name."""
    made = {}
    # The trained model first, baselines after it: the order of tables and pictures.
    order = sorted(sections, key=lambda name: sections[name].get("model", "trained") != "trained")
    for name in order:
        own, rest = _divide(sections[name], EvalSection)
        section = call(f"evals.{name}", EvalSection, own)
        pick(f"evals.{name}.model", section.model, MODELS)
        _check_range(f"evals.{name}", section, fit_limit=0)
        if data.test.classes and section.label not in data.test.classes:
            pick(f"evals.{name}.label", section.label, data.test.classes)
        probe = pick(f"evals.{name}.probe", section.probe, PROBES)
        valid = [f.name for f in dataclasses.fields(EvalSection)]
        check_keys(f"evals.{name}", rest, [*valid, *inspect.signature(probe).parameters])
        train, test = data.pipeline.source, data.test
        made[name] = (
            section,
            Evaluator(
                name=name,
                probe=call(f"evals.{name}", probe, rest),
                fit_stream=data.pipeline.eval_stream(train, section.fit_limit),
                test_stream=data.pipeline.eval_stream(test),
                sample_stream=data.pipeline.eval_stream(test, samples),
                classes=test.classes.get(section.label, ()),
                label=section.label,
                upsample=section.upsample,
            ),
        )
    return made


def init_from(state: State, workdir: str, groups: tuple[str, ...]) -> tuple[State, list[str]]:
    """Returns the state with parameters (and `extra`) of another run, and what was done, in lines.

    Args:
        state: as the method's `init` made it.
        workdir: of the other run; its final state is taken, or else its latest checkpoint.
        groups: which groups of parameters, and "extra"; () = all that both runs have.

    Raises:
        UserError: no such run, or a group that one of the two does not have.
    """
    path = pathlib.Path(workdir)
    places = [
        path / name for name in ("final", "checkpoints") if latest_step(path / name) is not None
    ]
    if not places:
        raise UserError(
            f"train.init_from: {workdir} holds no trained state; give the work directory of a run."
        )
    found = Checkpoints(places[0]).read()
    theirs = {**found["params"], "extra": found["extra"]}
    ours = {**state.params, "extra": state.extra}
    for group in groups:
        if group not in theirs or group not in ours:
            raise UserError(
                f"train.init_groups names {group!r}; {workdir} has {sorted(theirs)}, this method "
                f"{sorted(ours)}."
            )
    wanted = groups or tuple(name for name in ours if name in theirs)
    lines = [f"left as drawn: {name}" for name in ours if name not in wanted]
    merged = dict(ours)
    for group in wanted:
        merged[group], taken, unfit = _take_fitting(ours[group], theirs[group])
        lines.append(f"taken from {workdir}: {group}, {taken} arrays")
        lines += [f"did not fit: {group}{name}" for name in unfit]
    extra = merged.pop("extra")
    return state.replace(params=merged, extra=extra), lines


def _take_fitting(ours: PyTree, theirs: PyTree) -> tuple[PyTree, int, list[str]]:
    """Replaces the leaves of `ours` by those of equal path and shape: (tree, taken, unfit)."""
    there = {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(theirs)}
    taken, unfit = 0, []

    def choose(path: Any, leaf: Array) -> Array:
        nonlocal taken
        name = jax.tree_util.keystr(path)
        other = there.get(name)
        if other is None or other.shape != leaf.shape:
            shape = "absent" if other is None else other.shape
            unfit.append(f"{name}: here {leaf.shape}, there {shape}")
            return leaf
        taken += 1
        return jnp.asarray(other, leaf.dtype)

    return jax.tree_util.tree_map_with_path(choose, ours), taken, unfit


def claim_workdir(workdir: pathlib.Path, sections: dict[str, Any], mode: str) -> dict[str, Any]:
    """Writes config.json into a new work directory; checks that an old one was written by this.

    Evaluation reads the trained state, so that only the method must be the same; training goes on
    only where all that changes its numbers is. A directory without a checkpoint is as good as new.

    Returns:
        The sections that the run in the directory was or will be trained with.

    Raises:
        UserError: the directory belongs to another config, or evaluation finds none.
    """
    path = workdir / "config.json"
    if any(place.is_file() for place in (workdir, *workdir.parents)):
        raise UserError(f"--workdir: {workdir} is or lies in a file; give a folder.")
    begun = any(latest_step(workdir / name) is not None for name in ("final", "checkpoints"))
    if not path.exists() or not begun:
        if mode != "train":
            raise UserError(f"{workdir} holds no run to evaluate; train first (--mode=train).")
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(sections, indent=2, default=list) + "\n")
        return sections
    stored = json.loads(path.read_text())
    # Through JSON, so that tuples compare with the lists they are stored as.
    now, before = (
        _flatten(json.loads(json.dumps(with_defaults(tree), default=list)))
        for tree in (sections, stored)
    )
    ignored = MAY_CHANGE if mode == "train" else ("data", "optim", "train", "evals")
    changed = [
        f"  {key}: {before.get(key, 'absent')!r} there, {now.get(key, 'absent')!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _below(key, ignored)
    ]
    if changed:
        raise UserError(
            f"{workdir} was written by another config; these fields differ:\n"
            + "\n".join(changed)
            + "\nGive another --workdir, or set them back to go on with that run."
        )
    return stored


def with_defaults(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sections with the defaults of the fields that they leave out.

    A field that came into being after a run was begun so has the value that the run was made with.
    """
    method, data = sections["method"], sections["data"]
    functions: dict[str, list[Callable | None]] = {
        "method": [METHODS.get(method.get("name", ""))],
        "data": [DataSection, SOURCES.get(data.get("name", ""))],
        "optim": [make_optimiser],
        "train": [TrainSection],
    }
    filled = dict(sections)
    for section, makers in functions.items():
        parameters = [p for f in makers if f for p in inspect.signature(f).parameters.values()]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        filled[section] = defaults | dict(sections.get(section, {}))
    return filled


def _below(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
