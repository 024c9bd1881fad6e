"""Large images in overlapping tiles: where the tiles lie, and how their scores become one map.

A tile's weight falls towards its borders along a quarter of a sine, squared, over the width of the
overlap, and the weights of all tiles at a place sum to 1. So scores on which the tiles agree stay
as they are, and where they differ one goes over into the other without a step.

Sides, starts and overlaps are in pixels along one axis of an image; a cell is `cell` pixels wide.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

Window = tuple[int, int, int, int]  # y, x, height, width


def starts(length: int, side: int, overlap: int, cell: int) -> tuple[int, ...]:
    """Returns where tiles of `side` begin, evenly spread: multiples of `cell` that cover `length`.

    Neighbours share `overlap` pixels or more, to within two cells; the last tile may reach beyond
    the end by less than a cell. Raises ValueError unless 0 <= overlap < side.
    """
    if not 0 <= overlap < side:
        raise ValueError(f"tiles of {side} pixels cannot overlap by {overlap}")
    if length <= side:
        return (0,)
    count = math.ceil((length - overlap) / (side - overlap))
    last = math.ceil((length - side) / cell)
    return tuple(round(last * i / (count - 1)) * cell for i in range(count))


def weights(begins: tuple[int, ...], side: int, overlap: int, cell: int) -> np.ndarray:
    """Returns f32[n side/cell], the weights of the cells of n tiles that begin at `begins`."""
    cells, ramp = side // cell, max(overlap // cell, 1)
    inside = np.arange(cells) + 0.5
    rise = np.sin(np.pi / 2 * np.clip(inside / ramp, 0, 1)) ** 2
    found = np.ones((len(begins), cells))
    found[1:] *= rise
    found[:-1] *= rise[::-1]
    total = np.zeros(begins[-1] // cell + cells)
    places = [slice(begin // cell, begin // cell + cells) for begin in begins]
    for place, one in zip(places, found, strict=True):
        total[place] += one
    shares = [one / total[place] for place, one in zip(places, found, strict=True)]
    return np.stack(shares).astype(np.float32)


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """Returns a window of an image u8[H W Ch], edge pixels repeated where it reaches beyond."""
    y, x, height, width = window
    part = image[y : y + height, x : x + width]
    missing = height - part.shape[0], width - part.shape[1]
    if not any(missing):
        return part
    return np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def blend(
    size: tuple[int, int],
    tile: tuple[int, int],
    overlap: tuple[int, int],
    cell: int,
    predict: Callable[[Iterator[Window]], Iterator[np.ndarray]],
) -> np.ndarray:
    """Returns the scores f32[h w K] of an image of `size` from those of its tiles.

    Args:
        size: (height, width) of the image.
        tile: (height, width) of a tile, multiples of `cell`.
        overlap: of neighbours, at least, along the height and the width.
        cell: pixels along a cell.
        predict: from windows, some of which may reach beyond the image, to the scores
            f32[h w K] of each, in order.

    The map has ceil(side / cell) cells along a side, or those of a tile where it is larger. No more
    is held than the map and the scores of the tiles that `predict` has ready.
    """
    axes = list(zip(size, tile, overlap, strict=True))
    begins = [starts(length, side, shared, cell) for length, side, shared in axes]
    rows, columns = (
        weights(begin, side, shared, cell)
        for begin, (_, side, shared) in zip(begins, axes, strict=True)
    )
    places = list(itertools.product(*begins))
    shares = itertools.product(rows, columns)
    found = predict(iter([(y, x, *tile) for y, x in places]))
    canvas: np.ndarray | None = None
    for (y, x), (row, column), scores in zip(places, shares, found, strict=True):
        if canvas is None:
            shape = [(begin[-1] + side) // cell for begin, side in zip(begins, tile, strict=True)]
            canvas = np.zeros((*shape, scores.shape[-1]), np.float32)
        h, w = scores.shape[:2]
        canvas[y // cell : y // cell + h, x // cell : x // cell + w] += (
            scores * (row[:, None] * column[None])[..., None]
        )
    if canvas is None:
        raise ValueError("an image without a tile")
    return canvas
