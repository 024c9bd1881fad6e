"""Segmenting images with a trained run: load(workdir) -> Segmenter -> Segmentation.

    segmenter = jaxseg.load("runs/infoseg_camvid")
    result = segmenter("street.jpg")
    result.labels, result.names  # i32[H W] and what its numbers mean

Images are read as those of training are, and brought to the size of the test images of the run;
what comes back has the image's own size.
"""

import collections
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxseg import mosaic
from jaxseg.core import Array, Output, PyTree, State, UserError
from jaxseg.data.images import from_array, from_pillow, read_image
from jaxseg.image_shapes import largest_array, least_side, padded, round_up
from jaxseg.report.segments import ATTENTION
from jaxseg.segmentation import Cells, Segmentation
from jaxseg.trained import Trained
from jaxseg.views.geometry import EvalView

Picture = str | os.PathLike[str] | np.ndarray | Image.Image

_TILE = 1024  # side of the tiles of large images, where nothing says another, at most
# Bytes of the largest array in the prediction of two tiles; on an accelerator attention's soon has
# more, on a CPU it exists in small blocks alone.
_ROOM = 2**31
_SHARE = 4  # neighbouring tiles share at least a quarter of their side
_KEPT = 2**30  # bytes of the scores of a tiled image, which are thinned out to fit
_WAITING = 16, 2**24  # images, and pixels, that wait for others of their shape


def load(
    path: str | os.PathLike[str],
    entry: str = "",
    resize: int | None = None,
    tile: int = 0,
    batch_size: int = 4,
) -> "Segmenter":
    """Returns the segmenter of a trained run.

    Args:
        path: the run's work directory, or a file that `python -m jaxseg.bundle` made of it.
        entry: the entry of the config's `evals` that names the pixels; "" = that of the method's
            own scores, else of a probe without labels.
        resize: the side of the image that `data.test_resize` sets (the shorter one as a rule), in
            pixels; 0 = as it is; None = as the run's test images were.
        tile: side of the tiles, in pixels after resizing, that images with a longer side are
            predicted in; 0 = that of the entry. Where that is 0 too, images of more than 2
            megapixels are predicted in tiles of 1024, or both by as many halves as it takes until
            no array of the network has more than 2 GiB (a vision transformer's attention).
        batch_size: images of one shape that are predicted at once, at most.

    Raises:
        UserError: see `Trained.load`; or a number below its lowest value.
    """
    for name, value, lowest in (("resize", resize or 0, 0), ("tile", tile, 0),
                                ("batch_size", batch_size, 1)):  # fmt: skip
        if value < lowest:
            raise UserError(f"{name} is {value}; it must be at least {lowest}.")
    return Segmenter(Trained.load(os.fspath(path), entry), resize, tile, batch_size)


class _Waiting(NamedTuple):
    """An image on its way: as it came, as the network sees it, and the padded shape of that."""

    image: np.ndarray
    working: np.ndarray
    shape: tuple[int, int]


class Segmenter:
    """Names the pixels of images of any size. See `load` for what its arguments are.

    Attributes:
        names: of the K clusters; colours: u8[K 3].
        trained: what it was made of.
    """

    def __init__(
        self, trained: Trained, resize: int | None = None, tile: int = 0, batch_size: int = 4
    ):
        self.trained = trained
        self.names, self.colours = trained.names, trained.colours
        view = trained.view
        side, scale = (view.resize, view.scale) if resize is None else (resize, 1.0)
        self._view = EvalView(
            resize=side, interpolation=view.interpolation, side=view.side, scale=scale
        )
        self._multiple, self._least = least_side(trained)
        self._given_tile = tile or trained.section.tile
        self._batch_size = batch_size
        self._state: State = jax.device_put(trained.state)
        self._fitted: PyTree = jax.device_put(trained.fitted)
        self._predict = jax.jit(self._scores_and_levels, static_argnames=("grid", "levels"))
        self._maps = jax.jit(self._features_and_attention)

    @overload  # a path is a sequence too, of paths
    def __call__(self, images: Picture) -> Segmentation: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, images: Sequence[Picture]) -> list[Segmentation]: ...

    def __call__(self, images: Picture | Sequence[Picture]) -> Segmentation | list[Segmentation]:
        """Returns the segmentation of an image; or a list of them, of several.

        Args:
            images: a file's path; a Pillow image; an array u8 or u16 [H W] or [H W Ch]; or a list
                of these, of any sizes.

        Raises:
            UserError: an image cannot be read, or an array is no image.
        """
        if isinstance(images, (list, tuple)):
            return list(self.stream(images))
        return next(self.stream([images]))  # type: ignore[list-item]

    def stream(self, images: Iterable[Picture]) -> Iterator[Segmentation]:
        """Yields the segmentation of each image, in order; raises as a call does.

        A few images are read ahead, so that those of one shape are predicted together.
        """
        waiting: list[_Waiting] = []
        for image in images:
            waiting.append(self._prepare(image))
            pixels = sum(one.image[..., 0].size for one in waiting)
            if len(waiting) >= _WAITING[0] or pixels >= _WAITING[1]:
                yield from self._segment(waiting)
                waiting = []
        yield from self._segment(waiting)

    def _prepare(self, image: Picture) -> _Waiting:
        channels = self.trained.data.channels
        if isinstance(image, str | os.PathLike):
            pixels = read_image(image, channels)
        elif isinstance(image, Image.Image):
            pixels = from_pillow(image, channels)
        else:
            pixels = from_array(np.asarray(image), channels)
        working = self._view(pixels, {}).image
        height, width = (padded(n, self._multiple, self._least) for n in working.shape[:2])
        return _Waiting(pixels, working, (height, width))

    @functools.cached_property
    def _tile(self) -> int:
        """Side of the tiles that are predicted, two of them at once."""
        side = self._given_tile or _TILE
        if not self._given_tile:
            while side > 2 * self._least and self._room((side, 2 * side)) > _ROOM:
                side //= 2
        return round_up(side, self._multiple)

    def _room(self, shape: tuple[int, int]) -> int:
        """Returns the bytes of the largest array in the prediction of an image of `shape`."""
        return largest_array(self._forward, self._state, self._fitted, self._abstract(shape))

    @property
    def _forward(self) -> Callable:
        return functools.partial(self._scores_and_levels, grid=None, levels=False)

    def _abstract(self, shape: tuple[int, int]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *shape, self.trained.data.channels), np.uint8)

    def _is_large(self, one: _Waiting) -> bool:
        height, width = one.working.shape[:2]
        if self._given_tile:
            return max(height, width) > self._tile
        return not self._fits(height * width)

    def _fits(self, pixels: int) -> bool:
        """Says whether so many pixels are predicted at once."""
        # What is not much larger than in training fits; tracing large networks takes seconds.
        return pixels <= 4 * self.trained.data.crop**2 or pixels <= 2 * self._tile**2

    def _segment(self, waiting: list[_Waiting]) -> Iterator[Segmentation]:
        found: dict[int, Segmentation] = {}
        groups: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
        for number, one in enumerate(waiting):
            if not self._is_large(one):
                groups[one.shape].append(number)
        for shape, numbers in groups.items():
            windows = [mosaic.cut(waiting[n].working, (0, 0, *shape)) for n in numbers]
            for number, (scores, levels) in zip(numbers, self._batched(windows, True), strict=True):
                found[number] = self._whole_image(waiting[number], scores, levels)
        for number, one in enumerate(waiting):
            # One at a time, so that large ones do not wait in memory together.
            yield found.pop(number) if number in found else self._tiled_image(one)

    def _batched(
        self, images: Iterable[np.ndarray], levels: bool, grid: tuple[int, int] | None = None
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yields scores f32[h w K], and levels i32[h' w'] if asked, of images of one shape."""
        images = iter(images)
        while batch := list(itertools.islice(images, self._batch_size)):
            area = batch[0].shape[0] * batch[0].shape[1]
            # One by one, or filled up with the last: so two programs serve any number of images.
            fitting = (n for n in range(self._batch_size, 1, -1) if self._fits(n * area))
            count = next(fitting, 1)
            for begin in range(0, len(batch), count):
                rows = batch[begin : begin + count]
                filled = rows + [rows[-1]] * (0 if len(rows) == 1 else count - len(rows))
                output = self._predict(
                    self._state, self._fitted, np.stack(filled), grid=grid, levels=levels
                )
                scores, found = jax.device_get(output)
                for row in range(len(rows)):
                    yield scores[row], [level[row] for level in found]

    def _whole_image(
        self, one: _Waiting, scores: np.ndarray, levels: list[np.ndarray]
    ) -> Segmentation:
        def cells(grid: np.ndarray) -> Cells:
            real = zip(one.working.shape, one.shape, grid.shape, strict=False)
            span = [side / padded * n for side, padded, n in real]
            return Cells((span[0], span[1]), self.trained.section.upsample)

        def real(found: np.ndarray) -> np.ndarray:
            height, width = np.ceil(cells(found[0]).span).astype(int)
            return found[0, :height, :width]

        def maps() -> tuple[np.ndarray, dict[str, np.ndarray]]:
            padded = mosaic.cut(one.working, (0, 0, *one.shape))
            features, attention = jax.device_get(self._maps(self._state, padded[None]))
            return real(features), {name: real(found) for name, found in attention.items()}

        known = tuple((level, cells(level)) for level in levels)
        return self._made(one.image, scores, cells(scores), known, maps)

    def _tiled_image(self, one: _Waiting) -> Segmentation:
        size = one.working.shape[0], one.working.shape[1]
        tile = min(self._tile, one.shape[0]), min(self._tile, one.shape[1])
        cell = self._cell(size, tile)
        grid = tile[0] // cell, tile[1] // cell

        def predict(windows: Iterator[mosaic.Window]) -> Iterator[np.ndarray]:
            parts = (mosaic.cut(one.working, window) for window in windows)
            return (scores for scores, _ in self._batched(parts, False, grid))

        overlap = tile[0] // _SHARE, tile[1] // _SHARE
        scores = mosaic.blend(size, tile, overlap, cell, predict)
        span = size[0] / cell, size[1] / cell
        cells = Cells(span, self.trained.section.upsample)
        return self._made(one.image, scores, cells, (), None)

    def _made(
        self,
        image: np.ndarray,
        scores: np.ndarray,
        cells: Cells,
        levels: tuple[tuple[np.ndarray, Cells], ...],
        maps: Callable[[], tuple[np.ndarray, dict[str, np.ndarray]]] | None,
    ) -> Segmentation:
        return Segmentation(image, self.names, self.colours, scores, cells, levels, maps)

    def _cell(self, size: tuple[int, int], tile: tuple[int, int]) -> int:
        """Returns the pixels along the cells on which the tiles of an image of `size` are blended.

        They are those of the network's map, or less where its cells are no whole pixels, as of
        convolutions without padding; or more, where the scores would not fit.
        """
        shape = jax.eval_shape(
            self._forward, self._state, self._fitted, self._abstract(tile)
        )[0].shape  # fmt: skip
        cell = max(1, min(tile[0] // shape[1], tile[1] // shape[2]))
        while tile[0] % cell or tile[1] % cell:
            cell -= 1

        def too_large() -> bool:
            return 4 * shape[3] * -(-size[0] // cell) * -(-size[1] // cell) > _KEPT

        while too_large() and not (tile[0] % (2 * cell) or tile[1] % (2 * cell)):
            cell *= 2
        return cell

    def _scores_and_levels(
        self,
        state: State,
        fitted: PyTree,
        image: Array,
        grid: tuple[int, int] | None,
        levels: bool,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Returns scores f32[B h w K] of images u8[B H W Ch], and their levels if asked.

        Scores are those of the network's cells, brought to a `grid` of others if it is given.
        """
        output: Output = self.trained.method.predict(state, image)
        scores = self.trained.probe.scores(fitted, output)
        if grid and grid != scores.shape[1:3]:
            shape = (len(scores), *grid, scores.shape[-1])
            scores = jax.image.resize(scores, shape, "bilinear")  # averages where it shrinks
        return scores, output.levels if levels else ()

    def _features_and_attention(self, state: State, image: Array) -> tuple[Array, dict[str, Array]]:
        """Returns features f32[B h w D] of length 1, a feature of 0 staying so, and attention."""
        output: Output = self.trained.method.predict(state, image)
        attention = {
            name.removeprefix(ATTENTION): found
            for name, found in output.aux.items()
            if name.startswith(ATTENTION)
        }
        return unit_features(output.features), attention


def unit_features(features: Array) -> Array:
    """Returns features f32[B h w D] at length 1; a feature of 0 stays so."""
    length = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.maximum(length, 1e-12)
