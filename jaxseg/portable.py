"""A trained model as one function of images, to be taken where jaxseg is not.

    images u8[B H W Ch] -> {"labels": i32[B H W], "scores": f32[B h w K], "features": f32[B h w D]}

Weights and the fitted probe are in it as constants. What a segmenter does around it on the host is
not: reading files, resizing, padding, tiles. `describe` says what there is to know of it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import export

from jaxseg import __version__
from jaxseg.core import Array, Output, UserError
from jaxseg.evaluation.outputs import label_map
from jaxseg.image_shapes import least_side, round_up
from jaxseg.segmenter import unit_features
from jaxseg.trained import Trained

FORMAT = "jaxseg-export-1"
# Differences of scores, and shares of labels, that rounding may explain (in bfloat16, too).
_ROUNDING = 0.01
_EXAMPLE = 128  # about the least side of images that are compared, where the size is free

Size = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True, eq=False)
class Portable:
    """The function of a trained model.

    Attributes:
        trained: the model.
        levels: whether "level0" and so on, i32[B h' w'], groups of each image, fine to coarse, are
            among what it gives.
    """

    trained: Trained
    levels: bool = False

    def __call__(self, image: Array) -> dict[str, Array]:
        """Returns what the head of the module says, of images u8[B H W Ch]."""
        method, state = self.trained.method, self.trained.state
        predict = method.predict if self.levels else method.predict_cells
        output: Output = predict(state, image)
        scores = self.trained.probe.scores(self.trained.fitted, output)
        found = {
            "labels": label_map(scores, *image.shape[1:3], self.trained.section.upsample),
            "scores": scores,
            "features": unit_features(output.features),
        }
        return found | {f"level{i}": level for i, level in enumerate(output.levels)}

    @property
    def default_size(self) -> Size:
        """Of images, where it has to be fixed: the crop of the test images, or of training."""
        side = self.trained.view.crop or self.trained.data.crop
        return side, side

    def check_size(self, size: Size) -> None:
        """Raises UserError for a size of images that the network does not take."""
        try:
            jax.eval_shape(self, self.images(1, size))
        except (ValueError, UserError) as error:
            multiple, least = least_side(self.trained)
            raise UserError(
                f"--size is {size[0]}x{size[1]}, which the network does not take ({error}); give "
                f"multiples of {multiple}, {least} or more."
            ) from error

    def images(self, batch: Any, size: tuple[Any, Any]) -> jax.ShapeDtypeStruct:
        """Returns abstract images; numbers may be symbolic dimensions."""
        return jax.ShapeDtypeStruct((batch, *size, self.trained.data.channels), np.uint8)

    def free_images(self) -> Iterator[jax.ShapeDtypeStruct]:
        """Yields abstract images of any number and size, of sides that the network takes.

        Sides are multiples of the least side's divisor, then of twice that and so on: a map that is
        halved can be traced where nothing is rounded.
        """
        multiple, least = least_side(self.trained)
        for step in (multiple, 2 * multiple, 4 * multiple):
            fewest = max(2, -(-least // step))
            batch, height, width = export.symbolic_shape(
                f"b, {step}*h, {step}*w", constraints=[f"h >= {fewest}", f"w >= {fewest}"]
            )
            yield self.images(batch, (height, width))

    def example_size(self, images: jax.ShapeDtypeStruct) -> Size:
        """Returns a size of images that a file of `images` takes, of unlike sides if it may."""
        height, width = images.shape[1:3]
        if isinstance(height, int) and isinstance(width, int):
            return height, width
        # A symbolic side is a multiple of its variable.
        step = int(str(height).split("*")[0])
        least = max(_EXAMPLE, 2 * step, least_side(self.trained)[1])
        return round_up(least, step), round_up(least + _EXAMPLE // 4, step)

    def sample(self, size: Size, batch: int = 2) -> np.ndarray:
        """Returns random images u8[B H W Ch] to compare with, smooth and of all brightnesses."""
        shape = batch, *size, self.trained.data.channels
        coarse = jax.random.uniform(jax.random.key(0), (batch, 9, 9, shape[3]))
        fine = jax.random.uniform(jax.random.key(1), shape)
        smooth = jax.image.resize(coarse, shape, "bilinear")
        return np.asarray((0.9 * smooth + 0.1 * fine) * 255).astype(np.uint8)

    def describe(self, images: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Returns what a user of a file that takes `images` must know, as JSON holds it."""
        trained, found = self.trained, jax.eval_shape(self, images)
        view = trained.view
        return {
            "format": FORMAT,
            "inputs": {"image": _array(images, "RGB, or RGB and infrared, 0 to 255, upright")},
            "outputs": {name: _array(x, _meaning(name)) for name, x in sorted(found.items())},
            "names": trained.names,
            "colours": trained.colours.tolist(),
            "before": {
                "resize": view.resize, "side": view.side, "scale": view.scale,
                "interpolation": view.interpolation,
                "meaning": "as the run's test images were: the side of that name to so many pixels "
                "(0: as it is), both times scale; then pad at the bottom and right to a size that "
                "the file takes, and cut the labels again",
            },
            "model": {
                "method": type(trained.method).__name__, "step": int(trained.state.step),
                "entry": trained.meta.get("entry_name", ""), "probe": repr(trained.probe),
                "sha256": trained.sha256,
            },
            "versions": {"jaxseg": __version__, "jax": jax.__version__},
            "left_out": self.left_out(),
        }  # fmt: skip

    def left_out(self) -> list[str]:
        """Returns what of the model, and of what a segmenter does, the function does not hold."""
        method, section = self.trained.method, self.trained.section
        lines = ["reading files, resizing, padding and tiles of large images"]
        size = self.default_size
        if not self.levels and jax.eval_shape(
            method.predict, self.trained.state, self.images(1, size)
        ).levels:  # fmt: skip
            lines.append("levels of groups within an image (--levels has them, at a fixed size)")
        if section.tile:
            lines.append(
                f"tiles: the entry was scored in squares of {section.tile} pixels, which is the "
                "size to call the function with"
            )
        if getattr(getattr(method, "inner", method), "inference", "fixed") == "batch":
            lines.append(
                "independence of images: with method.inference='batch' labels of an image depend "
                "on the others of its batch, as they do in jaxseg"
            )
        return lines


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns how far the outputs of two functions of the same images are apart.

    "scores" and "features": the largest difference, of scores over the largest of them; "labels"
    and levels: the share that differs.
    """
    apart: dict[str, float] = {}
    for name, right in wanted.items():
        left = np.asarray(found[name])
        if np.issubdtype(right.dtype, np.integer):
            apart[name] = float((left != right).mean())
        else:
            largest = float(np.abs(right).max()) if name == "scores" else 1.0
            apart[name] = float(np.abs(left - right).max()) / max(largest, 1e-12)
    return apart


def check_apart(apart: dict[str, float], elsewhere: str = "") -> None:
    """Raises UserError where what `compare` found is too much to be rounding."""
    if not max(apart.values()) <= _ROUNDING:
        listing = ", ".join(f"{name} {value:.2g}" for name, value in apart.items())
        raise UserError(
            f"What was exported says something else than the run: on random images they differ by "
            f"{listing}, where {_ROUNDING:g} is allowed. Nothing is left of it"
            + (f"; {elsewhere}." if elsewhere else ".")
        )


def _array(x: jax.ShapeDtypeStruct, meaning: str) -> dict[str, Any]:
    shape = [n if isinstance(n, int) else str(n) for n in x.shape]
    return {"dtype": str(x.dtype), "shape": shape, "meaning": meaning}


def _meaning(name: str) -> str:
    if name.startswith("level"):
        return "groups of each image on cells, fine to coarse"
    return {
        "labels": "the number, in names, of each pixel",
        "scores": "of all names on the network's cells; labels are where they are highest",
        "features": "on the network's cells, of length 1",
    }[name]
