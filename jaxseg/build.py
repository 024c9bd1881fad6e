"""What the sections of a config build."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg.boundaries.contours import Contours
from jaxseg.core import Batch, Method, PyTree, UserError, check_range
from jaxseg.data import SOURCES
from jaxseg.data.cache import Cached
from jaxseg.data.coco_classes import COARSE, THINGS
from jaxseg.data.five_crop import FiveCrop
from jaxseg.data.packed import drop_source_fields
from jaxseg.data.pipeline import Pipeline
from jaxseg.data.source import Source
from jaxseg.data.with_regions import open_regions
from jaxseg.evaluate import Evaluator
from jaxseg.evaluate_hierarchy import HierarchyEvaluator
from jaxseg.evaluation.hierarchy import Hierarchy
from jaxseg.evaluation.probes import PROBES
from jaxseg.methods import METHODS
from jaxseg.methods.colour import Colour
from jaxseg.methods.online_probes import OnlineProbes
from jaxseg.optim import make_optimiser
from jaxseg.refine import REFINERS
from jaxseg.sections import DataSection, EvalSection, call, check_keys, divide, pick
from jaxseg.train import Transforms
from jaxseg.views.geometry import EvalView, TrainView

# What an entry of `evals` may score: this run's network, trained or as drawn, or a method that has
# nothing to learn; "contours" has levels alone.
MODELS: dict[str, type[Method] | None] = {
    "trained": None,
    "untrained": None,
    "colour": Colour,
    "contours": Contours,
}
# Fields of the section `method` that name a weights file, and the part of the network it is for;
# `pretrained.Weights` reads them.
WEIGHTS = {"weights": "backbone", "grouping_weights": "grouping"}


def make_method(values: Mapping[str, Any]) -> Method:
    """Returns the method of the section `method`, whose key `name` says which.

    The fields of WEIGHTS are not the method's; those of `online_probes`, if there are any, wrap it
    in `OnlineProbes`.
    """
    values = {k: v for k, v in values.items() if k not in WEIGHTS}
    probes = values.pop("online_probes", None)
    method = call("method", pick("method.name", values.pop("name", ""), METHODS), values)
    if probes:
        return call("method.online_probes", OnlineProbes, probes, inner=method)
    return method


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a run: its pipeline (over the training split) and both splits.

    Attributes:
        train: the training split without regions, for what needs none: some take long to make.
        regions: a line on where the regions of training batches come from; "" = they have none.
    """

    section: DataSection
    pipeline: Pipeline
    train: Source
    test: Source
    regions: str = ""


def make_data(values: Mapping[str, Any], seed: int, mesh: Mesh, labels: bool) -> Data:
    """Returns the data of the section `data`; opens and checks both splits."""
    section, openers = split_openers(values)
    splits = {split: open_split() for split, open_split in openers.items()}
    return combine_data(section, splits, seed, mesh, labels)


def combine_data(
    section: DataSection, splits: Mapping[str, Source], seed: int, mesh: Mesh, labels: bool
) -> Data:
    """Returns the data of a section whose splits are open."""
    if section.cache:
        splits = {split: Cached(source) for split, source in splits.items()}
    train = splits[section.train_split]
    shown, regions = train, ""
    if section.regions:
        shown, regions = open_regions(train, section.regions, section.regions_limit)
    if labels and not train.classes:
        raise UserError(
            f"The method reads labels in training, and the split {section.train_split!r} has none."
        )
    pipeline = Pipeline(
        source=FiveCrop(shown) if section.five_crop else shown,
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
        regions=bool(regions),
    )
    if section.five_crop:
        train = FiveCrop(train)
    return Data(section, pipeline, train, splits[section.test_split], regions)


def open_training(values: Mapping[str, Any]) -> Source:
    """Returns the training split of the section `data`, as images alone.

    Raises:
        UserError: it is not there, or the section does not fit its data set.
    """
    section, openers = split_openers(values)
    source = openers[section.train_split]()
    return Cached(source) if section.cache else source


def split_openers(
    values: Mapping[str, Any], **given: Any
) -> tuple[DataSection, dict[str, Callable[[], Source]]]:
    """Returns the section `data`, and what opens its training and its test split, by name.

    `given` are fields of the source that are set to other values, where it has them.
    """
    own, rest = divide(values, DataSection)
    section = call("data", DataSection, own)
    opener = pick("data.name", section.name, SOURCES)
    if section.name == "packed":
        rest = drop_source_fields(rest, SOURCES)
    parameters = inspect.signature(opener).parameters
    names = [f.name for f in dataclasses.fields(DataSection)]
    check_keys("data", rest, {*names, *parameters} - {"split"})
    rest |= {field: value for field, value in given.items() if field in parameters}
    if "channels" in parameters:
        rest["channels"] = section.channels
    elif section.channels != 3:
        raise UserError(f"data.channels is {section.channels}; {section.name!r} has 3.")
    splits = dict.fromkeys((section.train_split, section.test_split))
    return section, {
        split: functools.partial(call, "data", opener, rest, split=split) for split in splits
    }


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


def batch_spec(
    section: DataSection, labels: Iterable[str] = (), method: Method | None = None
) -> Batch:
    """Returns the abstract training batch of a data section, without reading any data.

    Args:
        labels: kinds of labels in the batch.
        method: gives the shape of cached features where the section asks for them; None leaves
            images in their place.
    """

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((section.batch_size, *shape), dtype)

    crop, views = section.crop, section.views + (section.partners > 0)
    batch = Batch(
        index=array(jnp.int32),
        seed=array(jnp.uint32),
        image=array(jnp.uint8, views, crop, crop, section.channels),
        size=array(jnp.int32, views, 2),
        box=array(jnp.float32, views, 5),
        regions=array(jnp.int32, views, crop, crop) if section.regions else None,
        label={kind: array(jnp.int32, crop, crop) for kind in labels},
    )
    if method is None or not section.tokens:
        return batch
    state = jax.eval_shape(lambda key: method.init(key, batch), jax.random.key(0))
    features = jax.eval_shape(lambda s, b: method.encode(s, b.first_view), state, batch)
    tokens = array(jnp.float16, views, *features.shape[1:])
    return batch.replace(image=None, size=None, box=None, tokens=tokens)


def make_transforms(values: Mapping[str, Any], params: PyTree, steps: int) -> Transforms:
    """Returns one optax transformation for each group of parameters.

    `groups` in the section holds, by group, the fields that differ from the section's.
    """
    values = dict(values)
    groups = values.pop("groups", {})
    check_keys("optim.groups", groups, params)
    return {
        group: call("optim", make_optimiser, values | dict(groups.get(group, {})), steps=steps)
        for group in params
    }


def make_evaluators(
    sections: Mapping[str, Mapping[str, Any]], data: Data, samples: int
) -> dict[str, tuple[EvalSection, Evaluator | HierarchyEvaluator]]:
    """Returns the evaluators of the section `evals` by name."""
    made: dict[str, tuple[EvalSection, Evaluator | HierarchyEvaluator]] = {}

    # The order of tables and pictures: what the method found, what else its features give, what
    # labels would give, baselines.
    def rank(name: str) -> tuple[bool, bool, bool]:
        get = sections[name].get
        learned = get("matching", "hungarian") == "identity"
        return get("model", "trained") != "trained", learned, get("probe", "argmax") != "argmax"

    order = sorted(sections, key=rank)
    for name in order:
        own, rest = divide(sections[name], EvalSection)
        section = call(f"evals.{name}", EvalSection, own)
        pick(f"evals.{name}.model", section.model, MODELS)
        check_range(f"evals.{name}", section, fit_limit=0, tile=0)
        if (
            section.tile
            and (data.section.test_crop or data.section.test_pad_multiple) % section.tile
        ):
            raise UserError(
                f"evals.{name}.tile is {section.tile}, which does not divide the sides of the test "
                f"images; set data.test_pad_multiple={section.tile} and data.test_crop=0."
            )
        probe = pick(f"evals.{name}.probe", section.probe, PROBES)
        valid = [f.name for f in dataclasses.fields(EvalSection)]
        check_keys(f"evals.{name}", rest, [*valid, *inspect.signature(probe).parameters])
        probe = call(f"evals.{name}", probe, rest)
        make = _hierarchy if isinstance(probe, Hierarchy) else _evaluator
        made[name] = section, make(name, section, probe, data, samples)
    return made


def _evaluator(name: str, section: EvalSection, probe: Any, data: Data, samples: int) -> Evaluator:
    """Returns what scores classes or clusters."""
    train, test = data.train, data.test
    if test.classes and section.label not in test.classes:
        pick(f"evals.{name}.label", section.label, test.classes)
    original = section.resolution == "original"
    if original and not data.pipeline.eval_view.shows_whole:
        raise UserError(
            f"evals.{name}.resolution is 'original', but test images are cropped; set "
            "data.test_crop=0, or data.test_side='longer' and data.test_resize no larger than "
            "data.test_crop."
        )
    refine = None
    if section.refine != "none":
        refine = pick(f"evals.{name}.refine", section.refine, REFINERS)()
    return Evaluator(
        name=name,
        probe=probe,
        fit_stream=data.pipeline.eval_stream(train, section.fit_limit),
        test_stream=data.pipeline.eval_stream(test, original=original),
        sample_stream=data.pipeline.eval_stream(test, samples),
        classes=test.classes.get(section.label, ()),
        label=section.label,
        upsample=section.upsample,
        resolution=section.resolution,
        matching=section.matching,
        absent=section.absent,
        refine=refine,
        tile=section.tile,
        things=things_of(name, section, test.classes.get(section.label, ())),
        alignment=section.alignment,
    )


def _hierarchy(
    name: str, section: EvalSection, probe: Hierarchy, data: Data, samples: int
) -> HierarchyEvaluator:
    """Returns what scores levels of groups; the fields of the section that it lacks do nothing."""
    stored = data.test[0].label
    for label in probe.labels if stored else ():
        pick(f"evals.{name}.labels", label, stored)
    return HierarchyEvaluator(
        name=name,
        probe=probe,
        test_stream=data.pipeline.eval_stream(data.test),
        sample_stream=data.pipeline.eval_stream(data.test, samples),
        classes=dict(data.test.classes),
        tile=section.tile,
    )


def things_of(name: str, section: EvalSection, classes: tuple[str, ...]) -> tuple[int, ...]:
    """Returns the classes of an entry of `evals` that are things; none where there are no labels.

    Raises:
        UserError: a name that is no class.
    """
    if not classes:
        return ()
    named = section.things or (THINGS if classes == COARSE else ())
    for one in named:
        if one not in classes:
            raise UserError(
                f"evals.{name}.things names {one!r}, which is no class; the classes are "
                f"{', '.join(classes)}."
            )
    return tuple(classes.index(one) for one in named)
