"""Geometry of views on the host: resize, crop, flip and pad, with labels and regions alongside.

Conventions of the module. Images are u8[H W Ch], label and region maps i32[H W] with -1 = ignored
or padding; sizes are (height, width). Pixels have half-pixel centres: pixel i of n covers
[i/n, (i+1)/n). "bilinear" is Pillow's, which averages over the footprint of a pixel when it shrinks
(as the PIL pipelines of the papers do); "linear" is OpenCV's INTER_LINEAR, which always blends the
2 x 2 pixels around a point (as in IIC's code); "nearest" takes pixel floor((i + 0.5) * old / new),
which is Pillow's rule too, computed in integers so that ids are exact. Wrong arguments raise
ValueError.

Images too small for a crop are padded. With padding "corner" that is at the bottom and right, and
`size` tells what is real. With "centre" (IIC) the image lies in the middle of zeros, side // 2 on
side // 2, which count as image as they do there: `size` is the whole crop. Maps are -1 in both.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

Window = tuple[int, int, int, int]  # y, x, height, width

# The mean colour of ImageNet, (0.485, 0.456, 0.406) * 255, and half of the range for infrared.
MEAN_COLOUR = np.array([124, 116, 104, 128], np.uint8)

# A fourth band must not be called alpha: Pillow weighs the colours by alpha when it resizes RGBA.
_MODES = {1: "L", 3: "RGB", 4: "RGBX"}
_METHODS = ("bilinear", "linear", "nearest")
_PADDINGS = ("corner", "centre")


def resize(array: np.ndarray, height: int, width: int, method: str = "bilinear") -> np.ndarray:
    """Resizes an image u8[H W Ch] (Ch 1, 3 or 4) or a map i32[H W] to (height, width).

    `method` is "bilinear", "linear" (images only) or "nearest" (any dtype, values kept exactly).
    Raises ValueError for another method, a size below 1, or a map that is not resized "nearest".
    """
    return resize_window(array, (height, width), (0, 0, height, width), method)


def resize_window(
    array: np.ndarray, size: tuple[int, int], window: Window, method: str
) -> np.ndarray:
    """Returns the window (y, x, h, w) of `array` resized to `size`.

    The rest is not computed, but by "linear". Equals `resize(array, *size)[y:y+h, x:x+w]`: exactly
    for "nearest" and "linear"; for "bilinear" but for means halfway between two grey levels, which
    may round the other way in either of Pillow's two passes (it keeps the corners of a window in
    single precision).
    """
    _check_method(method)
    y, x, h, w = window
    if min(size) < 1 or y < 0 or x < 0 or min(h, w) < 1 or y + h > size[0] or x + w > size[1]:
        raise ValueError(f"window {window} (y, x, h, w) does not lie inside the size {size}")
    if array.shape[:2] == tuple(size):
        return array[y : y + h, x : x + w]
    if method == "nearest":
        rows = _nearest(array.shape[0], size[0], y, h)
        columns = _nearest(array.shape[1], size[1], x, w)
        return array.take(rows, axis=0).take(columns, axis=1)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in _MODES:
        raise ValueError(
            f"{method} needs an image u8[H W Ch] with 1, 3 or 4 channels, got {array.dtype} of "
            f"shape {array.shape}; resize maps with 'nearest'"
        )
    if method == "linear":
        whole = cv2.resize(array, size[::-1], interpolation=cv2.INTER_LINEAR)
        return whole.reshape(*size, array.shape[2])[y : y + h, x : x + w]
    return _bilinear_window(array, size, window)


def shorter_side(shape: tuple[int, ...], target: int) -> tuple[int, int]:
    """Returns the size at which the shorter side is `target`; 0 keeps that of `shape` (H, W, ...).

    The longer side is rounded down, floor(target * longer / shorter), as torchvision's Resize does.
    """
    height, width = shape[:2]
    if target < 0:
        raise ValueError(f"the shorter side must be positive, or 0 to keep it; got {target}")
    if target == 0:
        return height, width
    if height <= width:
        return target, target * width // height
    return target * height // width, target


def longer_side(shape: tuple[int, ...], target: int) -> tuple[int, int]:
    """Returns the size at which the longer side is `target`; 0 keeps that of `shape` (H, W, ...).

    The shorter side is rounded down, but to no less than 1.
    """
    height, width = shape[:2]
    if target < 0:
        raise ValueError(f"the longer side must be positive, or 0 to keep it; got {target}")
    if target == 0:
        return height, width
    if height <= width:
        return max(1, target * height // width), target
    return target, max(1, target * width // height)


_SIDES = {"shorter": shorter_side, "longer": longer_side}


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Returns the size times a factor, rounded half up, at least 1."""
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


class View(NamedTuple):
    """A training view and where it lies in its image.

    `box` covers the whole view, padding included, so that it maps to the image linearly: a view
    pixel (i, j) of crop^2 has its centre at y = y0 + (i + 0.5) / crop * (y1 - y0) and at
    x = x0 + (j + 0.5) / crop * (x1 - x0), or, with flip = 1, x = x1 - (j + 0.5) / crop * (x1 - x0).
    The valid part lies inside the image, [0, 1]; the box of a padded view reaches outside it:
    y1 > 1; x1 > 1, or x0 < 0 if flipped; with padding "centre", on all sides that are padded.
    """

    image: np.ndarray  # u8[crop crop Ch]
    maps: dict[str, np.ndarray]  # i32[crop crop] by name, such as "regions"; padding = -1
    size: np.ndarray  # i32[2] valid height and width, from the top-left corner; the rest is padding
    box: np.ndarray  # f32[5] y0 x0 y1 x1 in fractions of the image, then flip (0 or 1)


@dataclasses.dataclass(frozen=True)
class TrainView:
    """A random square view: resize, random scale, random crop, random flip.

    The shorter side becomes `resize` (0: the original size), then both sides are multiplied by one
    draw from U(scale) and rounded half up, in a single resampling. A crop^2 window is drawn, or,
    with position "centre", taken from the middle as by `EvalView`; where the image is smaller, it
    is padded: at the right and bottom with the mean colour of ImageNet (padding "corner"), or all
    around with zeros ("centre"). With `flip`, half of the views are mirrored left to right, before
    the padding.
    """

    crop: int
    resize: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    interpolation: str = "bilinear"
    position: str = "random"
    padding: str = "corner"

    def __post_init__(self) -> None:
        _check_method(self.interpolation)
        _check_choice("position", self.position, ("random", "centre"))
        _check_choice("padding", self.padding, _PADDINGS)
        if self.crop < 1 or self.resize < 0:
            raise ValueError(f"crop must be at least 1 and resize at least 0, got {self}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high, got {self.scale}")

    def __call__(
        self,
        image: np.ndarray,
        maps: Mapping[str, np.ndarray],
        rng: np.random.Generator,
        out: np.ndarray | None = None,
    ) -> View:
        """Draws a view of an image u8[H W Ch] (Ch 3 or 4) and of its maps i32[H W] by name.

        Its image is written into `out` u8[crop crop Ch], if that is given.
        Four numbers are always drawn from `rng`, whatever the options.
        Raises ValueError if the image or `out` is of another form or a map of another size.
        """
        _check_image(image, (3, 4), maps)
        draws = rng.random(4)
        full = self._scaled_size(image.shape, draws[0])
        h, w = min(full[0], self.crop), min(full[1], self.crop)
        y, x = int(draws[1] * (full[0] - h + 1)), int(draws[2] * (full[1] - w + 1))
        if self.position == "centre":
            y, x = _middle(full[0], h), _middle(full[1], w)
        window, flip = (y, x, h, w), bool(self.flip and draws[3] < 0.5)
        place = _Place(self.crop, self.padding, (h, w), flip)
        part = resize_window(image, full, window, self.interpolation)
        carried = {
            name: place(resize_window(array, full, window, "nearest"), -1)
            for name, array in maps.items()
        }
        pixels = place(part, MEAN_COLOUR[: image.shape[2]] if place.is_corner else 0, out)
        return View(pixels, carried, place.size, place.box(full, window))

    def _scaled_size(self, shape: tuple[int, ...], draw: float) -> tuple[int, int]:
        low, high = self.scale
        return _scaled(shorter_side(shape, self.resize), low + (high - low) * draw)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where the valid part of a training view, (h, w) pixels, lies in its crop^2 pixels."""

    crop: int
    padding: str
    part: tuple[int, int]
    flip: bool

    @property
    def is_corner(self) -> bool:
        return self.padding == "corner"

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the part's first pixel."""
        top, left = (0 if self.is_corner else _before(side, self.crop) for side in self.part)
        return top, left

    @property
    def size(self) -> np.ndarray:
        """What `View.size` says: i32[2]."""
        return np.array(self.part if self.is_corner else (self.crop, self.crop), np.int32)

    def __call__(
        self, part: np.ndarray, filling: np.ndarray | int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns `part`, mirrored if `flip`, in its place; the rest is `filling`."""
        shape = (self.crop, self.crop, *part.shape[2:])
        if out is None:
            out = np.empty(shape, part.dtype)
        elif out.shape != shape or out.dtype != part.dtype:
            raise ValueError(
                f"expected `out` {part.dtype}{list(shape)}, got {out.dtype}{list(out.shape)}"
            )
        (top, left), (h, w) = self.offset, self.part
        if self.part != (self.crop, self.crop):
            out[:] = filling
            out[top : top + h, left : left + w] = part[:, ::-1] if self.flip else part
        elif self.flip:
            cv2.flip(part, 1, out)  # many times faster
        else:
            out[:] = part
        return out

    def box(self, full: tuple[int, int], window: Window) -> np.ndarray:
        """Returns f32[5]: the bounds of the whole view in fractions of the image, then flip."""
        y, x, _, w = window
        top, left = self.offset
        # Of a mirrored view, the columns before the part lie at the right of the image.
        y0, x0 = y - top, (x + w + left - self.crop if self.flip else x - left)
        edges = [y0 / full[0], x0 / full[1], (y0 + self.crop) / full[0], (x0 + self.crop) / full[1]]
        return np.array([*edges, float(self.flip)], np.float32)


class EvalExample(NamedTuple):
    """A test image with its labels, of one size."""

    image: np.ndarray  # u8[H W Ch]
    label: dict[str, np.ndarray]  # i32[H W] by name; -1 = ignored, padding included
    size: np.ndarray  # i32[2] valid height and width, from the top-left corner; the rest is padding


@dataclasses.dataclass(frozen=True)
class EvalView:
    """A fixed view: the shorter side to `resize` (0: the original size), then a crop or padding.

    With side="longer", it is the longer side that becomes `resize`. Both sides are then multiplied
    by `scale` and rounded half up, in one resampling with `resize`.
    With `crop`, the centre crop^2, its corner at round((side - crop) / 2), halves to even, as in
    torchvision; a smaller image is padded to crop^2. Otherwise, with `pad_multiple`, the sides are
    padded up to multiples of it, so that images of many sizes fall into few shapes. Padding is at
    the bottom and right, edge pixels repeated, or, with padding "centre", zeros around a crop.
    Labels are padded with -1 and always resized "nearest".
    """

    resize: int = 0
    crop: int = 0
    pad_multiple: int = 0
    interpolation: str = "bilinear"
    side: str = "shorter"
    scale: float = 1.0
    padding: str = "corner"

    def __post_init__(self) -> None:
        _check_method(self.interpolation)
        _check_choice("side", self.side, tuple(_SIDES))
        _check_choice("padding", self.padding, _PADDINGS)
        if self.scale <= 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if min(self.resize, self.crop, self.pad_multiple) < 0:
            raise ValueError(f"resize, crop and pad_multiple must be at least 0, got {self}")
        if self.crop and self.pad_multiple:
            raise ValueError(f"give either crop or pad_multiple: crops are of one size; got {self}")

    @property
    def shows_whole(self) -> bool:
        """Whether `size` is that of the whole image, of any size: nothing is cut off."""
        fits = 0 < self.resize * self.scale <= self.crop and self.side == "longer"
        return self.crop == 0 or (fits and self.padding == "corner")

    def __call__(self, image: np.ndarray, labels: Mapping[str, np.ndarray]) -> EvalExample:
        """Applies the view to an image u8[H W Ch] and to its label maps i32[H W] by name.

        Raises ValueError if the image is of another form or a label of another size.
        """
        _check_image(image, tuple(_MODES), labels)
        full = _scaled(_SIDES[self.side](image.shape, self.resize), self.scale)
        (y, h), (x, w) = self._extent(full[0]), self._extent(full[1])
        pixels = resize_window(image, full, (y, x, h, w), self.interpolation)
        around = (self._missing(h), self._missing(w))
        carried = {
            name: np.pad(
                resize_window(label, full, (y, x, h, w), "nearest"), around, constant_values=-1
            )
            for name, label in labels.items()
        }
        if self.crop and self.padding == "centre":
            size = np.array([self.crop, self.crop], np.int32)
            return EvalExample(np.pad(pixels, (*around, (0, 0))), carried, size)
        pixels = np.pad(pixels, (*around, (0, 0)), mode="edge")
        return EvalExample(pixels, carried, np.array([h, w], np.int32))

    def _extent(self, side: int) -> tuple[int, int]:
        """Returns (start, length) of what is kept of a side."""
        if self.crop == 0 or side <= self.crop:
            return 0, side
        return _middle(side, self.crop), self.crop

    def _missing(self, side: int) -> tuple[int, int]:
        """Returns how many pixels of padding a side needs, before and after."""
        if self.crop:
            before = _before(side, self.crop) if self.padding == "centre" else 0
            return before, self.crop - side - before
        return 0, -side % self.pad_multiple if self.pad_multiple else 0


def _middle(side: int, crop: int) -> int:
    """Returns where a centre crop begins, as in torchvision: halves to even."""
    return round((side - crop) / 2)


def _before(side: int, crop: int) -> int:
    """Returns the padding before a side in the middle of a larger crop, as in IIC's code."""
    return crop // 2 - side // 2


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def _check_method(method: str) -> None:
    _check_choice("interpolation", method, _METHODS)


def _check_image(
    image: np.ndarray, channels: tuple[int, ...], maps: Mapping[str, np.ndarray]
) -> None:
    """Raises ValueError unless the image is u8[H W Ch] and every map is i32[H W] of its size."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in channels:
        raise ValueError(
            f"expected an image u8[H W Ch] with Ch in {channels}, got {image.dtype} of shape "
            f"{image.shape}"
        )
    for name, array in maps.items():
        if array.dtype != np.int32 or array.shape != image.shape[:2]:
            raise ValueError(
                f"expected {name!r} to be i32{list(image.shape[:2])} like its image, got "
                f"{array.dtype} of shape {array.shape}"
            )


def _nearest(old: int, new: int, start: int, count: int) -> np.ndarray:
    """Returns floor((i + 0.5) * old / new) for i = start..start + count - 1, without rounding."""
    return (2 * np.arange(start, start + count, dtype=np.int64) + 1) * old // (2 * new)


def _bilinear_window(array: np.ndarray, size: tuple[int, int], window: Window) -> np.ndarray:
    """Resamples one window with Pillow, from no more of the source than its filter reads."""
    top, bottom, y0, y1 = _source_span(array.shape[0], size[0], window[0], window[2])
    left, right, x0, x1 = _source_span(array.shape[1], size[1], window[1], window[3])
    part = np.ascontiguousarray(array[top:bottom, left:right])
    mode = _MODES[array.shape[2]]
    picture = Image.frombuffer(mode, (right - left, bottom - top), part, "raw", mode, 0, 1)
    h, w = window[2:]
    resized = picture.resize((w, h), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
    return np.asarray(resized).reshape(h, w, array.shape[2])


def _source_span(old: int, new: int, start: int, count: int) -> tuple[int, int, float, float]:
    """Returns the pixels to cut from a side (first, end) and the window's bounds within the cut."""
    ratio = old / new
    low, high = start * ratio, min((start + count) * ratio, float(old))
    reach = math.ceil(max(ratio, 1.0)) + 1  # the radius of the triangle filter, and one to spare
    first, end = max(0, math.floor(low) - reach), min(old, math.ceil(high) + reach)
    return first, end, low - first, high - first
