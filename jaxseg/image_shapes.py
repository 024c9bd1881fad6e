"""What shapes of images a trained network takes, and what they cost."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseg.core import UserError
from jaxseg.trained import Trained

_STEPS = 8  # padded sides between a side and its double


def least_side(trained: Trained) -> tuple[int, int]:
    """Returns (multiple, least): the sides of images that the network takes, in pixels.

    They are multiples of the first, and no less than the second. It is the padding of whole test
    images where the network takes that; else a divisor of the side of the test crop.
    """

    def takes(side: int) -> bool:
        image = jax.ShapeDtypeStruct((1, side, side, trained.data.channels), np.uint8)
        try:
            jax.eval_shape(trained.method.predict, trained.state, image)
        except (ValueError, UserError):
            return False
        return True

    crop = trained.view.crop or trained.data.crop
    divisors = [n for n in range(8, crop + 1) if crop % n == 0]
    # Five times: a multiple of an odd number tells whether the multiple itself fits.
    fitting = (n for n in (trained.data.test_pad_multiple or 32, *divisors) if takes(5 * n))
    multiple = next(fitting, crop)
    sides = (n * multiple for n in range(1, math.ceil(crop / multiple)) if takes(n * multiple))
    return multiple, next(sides, math.ceil(crop / multiple) * multiple)


def padded(side: int, multiple: int, least: int) -> int:
    """Returns the side that an image's side is padded to: one of 8 between a side and its double.

    It is a multiple of `multiple` and no less than `least`.
    """
    step = multiple
    while side > 2 * _STEPS * step:
        step *= 2
    return max(round_up(side, step), least)


def round_up(side: int, multiple: int) -> int:
    """Returns the smallest multiple that is no less than `side`."""
    return -(-side // multiple) * multiple


def largest_array(function: Callable, *args: Any) -> int:
    """Returns the bytes of the largest array in what a function computes of abstract arguments."""
    return _largest(jax.make_jaxpr(function)(*args).jaxpr)


def _largest(jaxpr: Any) -> int:
    found = 0
    for equation in jaxpr.eqns:
        arrays = (one.aval for one in equation.outvars)
        sizes = [x.size * x.dtype.itemsize for x in arrays if hasattr(x, "dtype")]
        inner = (getattr(one, "jaxpr", one) for one in jax.tree.leaves(equation.params))
        sizes += [_largest(one) for one in inner if hasattr(one, "eqns")]
        found = max([found, *sizes])
    return found
