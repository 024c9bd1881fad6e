"""The sections of a config: what fields they have, and how their values become arguments.

A section is `method`, `data`, `optim`, `train` or `evals`. Its valid keys are the fields of what it
builds; any other key is an error that names them. The records below are the fields of the sections
that no single object stands for.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxseg.core import UserError, check_range

SECTIONS = ("method", "data", "optim", "train", "evals")
SELECTIONS = ("last", "lowest_loss")


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
    five_crop: bool = False  # training: the four corners and the centre of each image, as images
    tokens: str = ""  # folder that keeps frozen features of the training views; "" = not kept
    # Near neighbours, by their mean frozen features, that the partner of an image is drawn from;
    # the partner's view comes last. 0 = no partners.
    partners: int = 0
    # Coherent regions in training batches: "" = none, "graph" = an over-segmentation computed from
    # each image, "stored" = those packed with the images, or a folder of region PNGs.
    regions: str = ""
    regions_limit: int = 48  # "graph": most regions of an image
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
        check_range(
            "data", self, batch_size=1, views=1, resize=0, crop=1, test_resize=0, test_crop=0,
            test_pad_multiple=0, threads=1, workers=0, prefetch=1, partners=0,
            regions_limit=1,
        )  # fmt: skip
        if self.channels not in (3, 4):
            raise UserError(f"data.channels is {self.channels}; it is 3 (RGB) or 4 (and infrared).")
        if len(self.scale) != 2:
            raise UserError(f"data.scale is {self.scale}; it is (lowest, highest).")
        if self.regions and self.tokens:
            raise UserError(
                f"data.regions is {self.regions!r} and data.tokens {self.tokens!r}, but batches of "
                "cached features carry no regions; leave one of them empty."
            )

    def without_regions(self) -> "DataSection":
        """Returns the section of training batches that carry no regions."""
        return dataclasses.replace(self, regions="")


@dataclasses.dataclass(frozen=True)
class TrainSection:
    """The fields of `train`."""

    seed: int = 0
    steps: int = 0  # optimiser steps; 0 = as many as `epochs` says
    epochs: int = 0  # passes over the training split, where `steps` is 0
    refit_every: int = 0  # steps between refits of the method; 0 = never; -1 = an epoch
    select: str = "last"  # the state used at the end: "last" or "lowest_loss" (mean of an epoch)
    max_nonfinite: int = 5  # skipped steps in a row that stop the run
    log_every: int = 20  # steps between lines of metrics
    save_every: int = 500  # steps between checkpoints
    keep: int = 2  # checkpoints kept
    monitor_every: int = 100  # steps between looks at the collapse monitor; 0 = never
    evaluate_every: int = 0  # steps between evaluations of the trained model; 0 = at the end alone
    # End after so many seconds of training, if the steps are not done by then; 0 = no limit. What
    # comes before the end of the first step, compiling above all, is not counted. In a run of one
    # process, for the clocks of several would not agree on the last step.
    seconds: int = 0
    samples: int = 8  # test images shown in pictures
    # Devices that hold one copy of the state together, each a part of its large arrays; a divisor
    # of their number. 1 = every device holds everything.
    shards: int = 1
    init_from: str = ""  # work directory of another run to start from
    init_groups: tuple[str, ...] = ()  # which of its groups (and "extra"); () = all that fit

    def __post_init__(self):
        check_range(
            "train", self, seed=0, steps=0, epochs=0, refit_every=-1, max_nonfinite=1, log_every=1,
            save_every=1, keep=1, monitor_every=0, evaluate_every=0, samples=1,
            seconds=0, shards=1,
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
    # Of the labels that are scored: "view", that of the test images, or "original", of the images
    # before data.test_*, to which clusters are resized by nearest neighbour (HSG).
    resolution: str = "view"
    fit_limit: int = 0  # images that the probe is fitted on, spread over the split; 0 = all
    # "identity" for a probe that was trained with labels, or looks them up (probe "retrieval")
    matching: str = "hungarian"
    # What a class that is neither labelled nor predicted does to the mean IoU: "drop", or "zero" as
    # in the released HSG (with probe "retrieval").
    absent: str = "drop"
    refine: str = "none"  # a key of REFINERS: what smooths the probabilities, such as "crf"
    tile: int = 0  # predict in squares of this side; 0 = whole images
    # Names of the classes that are things: they and the rest are scored apart as well. () = none,
    # or the first 12 of COCO's 27 classes.
    things: tuple[str, ...] = ()
    alignment: bool = False  # measure alignment and uniformity of the features too


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


def divide(values: Mapping[str, Any], record: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits values into those that are fields of the record and the rest."""
    names = {field.name for field in dataclasses.fields(record)}
    own = {k: v for k, v in values.items() if k in names}
    return own, {k: v for k, v in values.items() if k not in names}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested sections by their path, "optim.learning_rate"."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
