"""What a segmenter says of one image.

Scores are kept on the network's cells, and brought to pixels where they are asked for: those of all
clusters at all pixels would take far more room than the image.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.disk import new_file

_STRIP = 2**26  # bytes of scores that are brought to pixels at once
_INDEXED = 256  # colours that an indexed PNG can have

Window = tuple[int, int, int, int]  # y, x, height, width


@dataclasses.dataclass(frozen=True)
class Cells:
    """Maps of an image on cells, of which the padding at the bottom and right is not image.

    Attributes:
        span: how many rows and columns of cells, in fractions, the image covers.
        rule: "bilinear" or "nearest", from cells to pixels, as `evaluation.outputs.label_map` does.
    """

    span: tuple[float, float]
    rule: str = "bilinear"

    def nearest(self, cells: np.ndarray, size: tuple[int, int], window: Window) -> np.ndarray:
        """Returns a window of maps [h w ...] of cells at the pixels of an image of `size`."""
        rows, columns = self._centres(size, window)
        kept = [
            np.clip(np.floor(at).astype(int), 0, n - 1)
            for at, n in zip((rows, columns), cells.shape, strict=False)
        ]
        return cells[kept[0]][:, kept[1]]

    def bilinear(self, cells: np.ndarray, size: tuple[int, int], window: Window) -> np.ndarray:
        """Returns the same by bilinear interpolation, of maps f32[h w K]."""
        rows, columns = self._centres(size, window)
        return _between(_between(cells, rows, 0), columns, 1)

    def _centres(self, size: tuple[int, int], window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the centres of a window's rows and columns lie, in cells from the edge."""
        y, x, height, width = window
        rows = (np.arange(y, y + height) + 0.5) * (self.span[0] / size[0])
        columns = (np.arange(x, x + width) + 0.5) * (self.span[1] / size[1])
        return rows, columns


def _between(values: np.ndarray, centres: np.ndarray, axis: int) -> np.ndarray:
    """Returns f32 values at places between those of an axis; beyond the ends, those of the ends."""
    last = values.shape[axis] - 1
    at = np.clip(centres - 0.5, 0, last)
    low = np.minimum(np.floor(at).astype(int), max(last - 1, 0))
    share = (at - low).astype(np.float32)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    found = values.take(low, axis)
    step = values.take(np.minimum(low + 1, last), axis)
    step -= found
    step *= share
    found += step
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of the pixels of one image, at its own size.

    Attributes:
        image: u8[H W Ch], upright.
        names: of the K clusters: the class that each was matched with, or "cluster 3".
        colours: u8[K 3].
    """

    image: np.ndarray
    names: tuple[str, ...]
    colours: np.ndarray
    _scores: np.ndarray = dataclasses.field(repr=False)  # f32[h w K]
    _cells: Cells = dataclasses.field(repr=False)
    # The levels i32[h' w'], with the cells of their own that the image covers.
    _levels: tuple[tuple[np.ndarray, Cells], ...] = dataclasses.field(repr=False)
    # Features and attention; None where the image was predicted in tiles.
    _find_maps: Callable[[], tuple[np.ndarray, dict[str, np.ndarray]]] | None = dataclasses.field(
        repr=False
    )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """i32[H W], the cluster of each pixel: an index of `names`."""
        if self._cells.rule == "nearest":
            best = self._scores.argmax(-1).astype(np.int32)
            return self._cells.nearest(best, self.size, (0, 0, *self.size))
        found = np.empty(self.size, np.int32)
        for window in self._strips():
            strip = self.scores(window)
            found[window[0] : window[0] + window[2]] = strip.argmax(-1)
        return found

    @property
    def narrow_labels(self) -> np.ndarray:
        """The labels as u8[H W], above 256 clusters as u16, as files have them."""
        return self.labels.astype(np.uint8 if len(self.names) <= _INDEXED else np.uint16)

    def scores(self, window: Window | None = None) -> np.ndarray:
        """Returns f32[h w K], the scores of all clusters in a window (y, x, h, w); None = all.

        `labels` are where they are highest. They take 4 K bytes a pixel, so that those of a large
        image are better looked at by windows.

        Raises:
            ValueError: the window does not lie in the image.
        """
        y, x, height, width = window = window or (0, 0, *self.size)
        if min(y, x) < 0 or y + height > self.size[0] or x + width > self.size[1]:
            raise ValueError(f"the window {window} (y, x, h, w) is not inside {self.size}")
        rule = self._cells.nearest if self._cells.rule == "nearest" else self._cells.bilinear
        return rule(self._scores, self.size, window)

    @property
    def levels(self) -> tuple[np.ndarray, ...]:
        """Groups i32[H W] of this image alone, fine to coarse, base segments first.

        Empty for a method without levels, and for an image that was predicted in tiles.
        """
        window = (0, 0, *self.size)
        return tuple(cells.nearest(level, self.size, window) for level, cells in self._levels)

    @functools.cached_property
    def _maps(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if self._find_maps is None:
            raise UserError(
                "The image was predicted in tiles, of which no features are kept; segment a part of"
                " it, or load with a smaller resize."
            )
        return self._find_maps()

    @property
    def is_tiled(self) -> bool:
        """Whether the image was predicted in tiles, so that it has no levels and no features."""
        return self._find_maps is None

    @property
    def features(self) -> np.ndarray:
        """f32[h w D] of length 1, of the network's cells; found by another pass when asked for.

        Raises:
            UserError: the image was predicted in tiles.
        """
        return self._maps[0]

    @property
    def attention(self) -> dict[str, np.ndarray]:
        """Attention maps f32[h w n] of n queries by the level that they group; as `features`.

        Empty for a method whose groups come from no attention.
        """
        return self._maps[1]

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """i64[K], how many pixels each cluster has."""
        # Strip by strip, for NumPy counts a copy in 64 bits.
        strips = (self.labels[y : y + height] for y, _, height, _ in self._strips())
        counts = (np.bincount(strip.reshape(-1), minlength=len(self.names)) for strip in strips)
        return np.sum(list(counts), axis=0)

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """Returns u8[H W 3], the image under the colours of its labels.

        `opacity` of the colours is in [0, 1]; raises ValueError for another.
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is {opacity}; it lies in [0, 1]")
        painted = np.empty((*self.size, 3), np.uint8)
        for y, _, height, _ in self._strips():
            rows = slice(y, y + height)
            colours = self.colours.take(self.labels[rows], axis=0)
            shown = np.ascontiguousarray(self.image[rows, :, :3])
            painted[rows] = cv2.addWeighted(shown, 1 - opacity, colours, opacity, 0)
        return painted

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the labels as a PNG, atomically: indexed, in `colours`; above 256 clusters 16-bit.

        Raises:
            UserError: the name does not end in .png, or the file cannot be written.
        """
        if pathlib.Path(path).suffix.lower() != ".png":
            raise UserError(f"Labels are saved as PNG; {os.fspath(path)!r} does not end in .png.")
        picture = Image.fromarray(self.narrow_labels)
        if len(self.names) <= _INDEXED:
            picture.putpalette(self.colours.tobytes())
        save_picture(picture, pathlib.Path(path))

    def _strips(self) -> Iterator[Window]:
        """Yields windows from top to bottom, of which the scores take little room."""
        height, width = self.size
        rows = max(1, _STRIP // (4 * width * max(len(self.names), 3)))
        for y in range(0, height, rows):
            yield y, 0, min(rows, height - y), width


def save_picture(picture: Image.Image, path: pathlib.Path, **options: object) -> None:
    """Writes a picture, atomically, in the format of its suffix; `options` are Pillow's.

    Raises:
        UserError: the file cannot be written.
    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    try:
        with new_file(path, picture.width * picture.height, str(path.parent)) as file:
            picture.save(file, kind, **options)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}.") from error
