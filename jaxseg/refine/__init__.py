"""What smooths a segmentation along the edges of its image, after the probe and before argmax.

A refiner is a frozen dataclass whose fields are its hyper-parameters. Called with probabilities
f[B H W K], the image u8[B H W Ch] at the same size and `valid` bool[B H W] (None: all; true on a
rectangle at the top left where images are padded), it returns probabilities f32[B H W K]. Of an
image with an infrared channel the first three channels are used.
"""

import dataclasses
from typing import Protocol

from jax import Array

from jaxseg.core import UserError
from jaxseg.refine.dense_crf import dense_crf
from jaxseg.refine.pamr import pamr
from jaxseg.refine.reference import dense_crf_reference


class Refiner(Protocol):
    """What the evaluator calls on softmax(logits) at label resolution."""

    def __call__(self, probabilities: Array, image: Array, valid: Array | None = None) -> Array: ...


@dataclasses.dataclass(frozen=True)
class DenseCRF:
    """The dense CRF on the device; see `dense_crf`. The defaults are those of STEGO and SmooSeg."""

    steps: int = 10
    gaussian_sigma: float = 1.0
    gaussian_weight: float = 3.0
    bilateral_sigma_xy: float = 67.0
    bilateral_sigma_rgb: float = 3.0
    bilateral_weight: float = 4.0

    def __post_init__(self):
        _at_least("steps", self.steps, 0)
        for field in ("gaussian_sigma", "bilateral_sigma_xy", "bilateral_sigma_rgb"):
            if not (value := getattr(self, field)) > 0:
                raise UserError(f"refine.{field} is {value}; it must be above 0.")

    def __call__(self, probabilities: Array, image: Array, valid: Array | None = None) -> Array:
        return dense_crf(probabilities, image, valid, **dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class DenseCRFReference(DenseCRF):
    """The same by pydensecrf2, on the host, to compare with; it needs the extra "crf"."""

    def __call__(self, probabilities: Array, image: Array, valid: Array | None = None) -> Array:
        return dense_crf_reference(probabilities, image, valid, **dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class PAMR:
    """Pixel-adaptive mask refinement; see `pamr`."""

    steps: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)

    def __post_init__(self):
        _at_least("steps", self.steps, 0)
        # A config holds lists; jit needs what can be hashed.
        object.__setattr__(self, "dilations", tuple(self.dilations))
        _at_least("dilations", min(self.dilations, default=0), 1)

    def __call__(self, probabilities: Array, image: Array, valid: Array | None = None) -> Array:
        return pamr(probabilities, image, valid, **dataclasses.asdict(self))


def _at_least(field: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"refine.{field} is {value}; it must be at least {least}.")


REFINERS: dict[str, type[DenseCRF] | type[PAMR]] = {
    "crf": DenseCRF,
    "crf_reference": DenseCRFReference,
    "pamr": PAMR,
}
