"""What is said of a config before anything of it runs: by a run, and by `jaxseg.doctor`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseg import build
from jaxseg.core import Batch, Method, Output, State, UserError
from jaxseg.sections import DataSection, EvalSection, TrainSection
from jaxseg.train import Step, Transforms, init_optimiser


def name_of(method: Method) -> str:
    """Returns what a method is called."""
    inner = getattr(method, "inner", None)
    name = type(method).__name__
    return f"{type(inner).__name__} with {name}" if inner else name


def drawing(method: Method, section: DataSection) -> Callable[[jax.Array], State]:
    """Returns the function from a run's key to the state that it begins with."""
    spec = build.batch_spec(section)
    return lambda key: method.init(jax.random.fold_in(key, 3), spec)


def check_refits(method: Method, train: TrainSection) -> None:
    """Raises UserError for a method that would never be refit, though it learns from that."""
    if method.needs_refit and not train.refit_every:
        raise UserError(
            f"train.refit_every is 0, but {name_of(method)} learns from what its refits find; set "
            "it to -1 (before each epoch) or to a number of steps."
        )


def check_step(step: Step, shapes: State, transforms: Transforms, spec: Batch) -> None:
    """Traces a step, so that what does not fit is said before anything runs.

    Raises:
        UserError, ValueError: what the method or the optimiser say.
    """
    jax.eval_shape(lambda s, b: step(init_optimiser(s, transforms), b), shapes, spec)


def check_probe(
    section: EvalSection, evaluator: Any, method: Method, shapes: State, image: np.ndarray
) -> Output:
    """Traces what an entry of `evals` scores; returns the abstract output that its probe reads.

    `image` u8[H W Ch] is a test image as it is evaluated.

    Raises:
        UserError: the probe cannot read it, or the model does not take the test images.
    """
    height, width = (section.tile,) * 2 if section.tile else image.shape[:2]
    seen = jax.ShapeDtypeStruct((1, height, width, image.shape[2]), image.dtype)
    try:
        output = jax.eval_shape(method.predict, shapes, seen)
        evaluator.probe.check(output)
    except (UserError, ValueError) as error:
        raise UserError(f"evals.{evaluator.name}: {error}") from error
    return output
