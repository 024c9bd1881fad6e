"""Rows: the fields of one image of a batch, by their place in a run, an epoch or a test split."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxseg.core import UserError
from jaxseg.data.source import Example, Source
from jaxseg.data.tokens import TokenStore
from jaxseg.views.geometry import EvalView, TrainView

Row = dict[str, Any]  # NumPy arrays, by the names of the fields of a Batch
Room = Callable[[tuple[int, ...]], np.ndarray]  # memory u8 of a shape

# JAX takes host arrays that begin at a multiple of this over as they are where the device is the
# CPU; others it copies.
_ALIGNMENT = 64  # bytes

_LABEL_MULTIPLE = 128  # pads labels at their images' own size, which fall into few shapes so

# glibc gives freed memory above a threshold back to the system, and then every image and batch pays
# for its pages anew, which may take longer than decoding. Once a block of this size was freed, as
# here, each process that reads keeps twice as much (mallopt(3)); other systems take no notice.
np.empty(31 << 20, np.uint8)


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def draw_seed(seed: int, epoch: int, index: int) -> np.uint32:
    """Returns the seed of an image's views in an epoch, u32."""
    return np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint32)[0]


def stack(rows: list[Row]) -> Row:
    """Returns the rows of a batch as one, each field with a leading axis."""
    first = rows[0]
    # np.stack would do the same, but takes four times as long over small arrays.
    return {
        name: {kind: np.array([row[name][kind] for row in rows]) for kind in value}
        if isinstance(value, dict)
        else np.array([row[name] for row in rows])
        for name, value in first.items()
    }


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an uninitialised array u8 in memory that begins where JAX likes it to."""
    length = math.prod(shape)
    memory = np.empty(length + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + length].reshape(shape)


class _Draw(NamedTuple):
    """What is drawn of a row before its images are read."""

    image: int  # its index
    seed: np.uint32
    shown: list[int]  # the image of each view
    rng: np.random.Generator  # draws the views


@dataclasses.dataclass(frozen=True)
class TrainRows:
    """Random access to the batches of an endless run: step -> a host's rows; see `Pipeline`.

    A batch is read as a whole, by one thread: handed over image by image, the handing over would
    take a third of the time of decoding.
    """

    source: Source
    view: TrainView
    views: int
    seed: int
    images_per_epoch: int
    host: tuple[int, int, int]  # rows of a host's batch, of a global batch, and the host's first
    labels: bool
    regions: bool = False
    tokens: TokenStore | None = None
    partners: np.ndarray | None = None

    def __len__(self) -> int:
        return 2**62  # endless; grain wants a number

    def __getitem__(self, step: int) -> Row:
        local, whole, first = self.host
        start = step * whole + first
        # All draws before the first image: after each image, whose pixels leave nothing else in the
        # processor's caches, they would take more than twice as long.
        draws = [self._draw(*self._at(start + place)) for place in range(local)]
        images, places = None, iter(range(local))

        def room(shape: tuple[int, ...]) -> np.ndarray:
            """Where the next image belongs in the batch, rather than copied there later."""
            nonlocal images
            if images is None:
                images = _aligned((local, *shape))
            return images[next(places)]

        rows = [self._row(draw, room) for draw in draws]
        if images is None:
            return stack(rows)
        for row in rows:
            del row["image"]
        return {"image": images} | stack(rows)

    def _at(self, position: int) -> tuple[int, int]:
        """Returns the epoch of a position of the run, and the index of the image there."""
        epoch, place = divmod(position, self.images_per_epoch)
        return epoch, int(_permutation(self.seed, epoch, len(self.source))[place])

    def row(self, epoch: int, index: int) -> Row:
        """Returns image `index` with its views, and those of its partner, of `epoch`."""
        return self._row(self._draw(epoch, index))

    def _draw(self, epoch: int, index: int) -> _Draw:
        seed = draw_seed(self.seed, epoch, index)
        rng = np.random.default_rng(seed)
        shown = [index] * self.views
        if self.partners is not None:
            # Drawn first, so that pairs are the same whether features are cached or not.
            others = self.partners[index]
            shown.append(int(others[rng.integers(len(others))]))
        return _Draw(index, seed, shown, rng)

    def _row(self, draw: _Draw, room: Room = _aligned) -> Row:
        """Returns the row; the views u8[V crop crop Ch] are written into what `room` gives."""
        row: Row = {"index": np.int32(draw.image), "seed": draw.seed}
        if self.tokens is None:
            return row | self._views(draw.shown, draw.rng, room)
        row["tokens"] = np.stack([self.tokens[number] for number in draw.shown])
        if self.labels and self.source.classes:
            example = self.source[draw.image]
            row["label"] = self.view(example.image, example.label, draw.rng).maps
        return row

    def _views(self, shown: list[int], rng: np.random.Generator, room: Room) -> Row:
        """Returns the fields drawn from images; a label map is that of the first."""
        examples = {number: self.source[number] for number in dict.fromkeys(shown)}
        channels = examples[shown[0]].image.shape[2]
        out = room((len(shown), self.view.crop, self.view.crop, channels))
        drawn = [
            self.view(*self._maps(examples[number]), rng, part)
            for number, part in zip(shown, out, strict=True)
        ]
        row: Row = {
            "image": out,
            "size": _stack([view.size for view in drawn]),
            "box": _stack([view.box for view in drawn]),
        }
        label = dict(drawn[0].maps)
        if label.pop("regions", None) is not None:
            row["regions"] = _stack([view.maps["regions"] for view in drawn])
        if label:
            row["label"] = label
        return row

    def _maps(self, example: Example) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns an image and the maps to carry along with it."""
        maps = dict(example.label) if self.labels else {}
        if self.regions:
            if example.regions is None:
                raise UserError(
                    f"image {example.name} has no regions; make those of the whole split"
                )
            maps["regions"] = example.regions
        return example.image, maps


def _stack(views: list[np.ndarray]) -> np.ndarray:
    """Returns the views along a new first axis; a single one is not copied for it."""
    return np.stack(views) if len(views) > 1 else views[0][None]


@dataclasses.dataclass(frozen=True)
class EpochRows:
    """The rows of one epoch in index order: what a refit reads."""

    rows: TrainRows
    epoch: int
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Row:
        return self.rows.row(self.epoch, self.indices[position])


def empty(row: Row) -> Row:
    """Returns what fills up a batch of such rows: black, with index -1 and labels -1."""
    found = jax.tree.map(np.zeros_like, row) | {"index": np.int32(-1)}
    if "label" in found:
        found["label"] = {name: np.full_like(x, -1) for name, x in found["label"].items()}
    return found


@dataclasses.dataclass(frozen=True)
class EvalRows:
    """Rows of a split as a test sees them.

    With `original`, labels keep the size of their image, and `label_size` says what is real.
    """

    source: Source
    view: EvalView
    indices: tuple[int, ...]
    original: bool = False

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Row:
        index = self.indices[position]
        example = self.source[index]
        seen = {} if self.original else example.label
        image, label, size = self.view(example.image, seen)
        row = {
            "index": np.int32(index),
            "seed": np.uint32(0),
            "image": image[None],
            "size": size[None],
            "label": label,
        }
        return row | _original(example) if self.original else row


def _original(example: Example) -> Row:
    """Returns the labels of an example, padded at the bottom and right, and their size."""
    size = example.image.shape[:2]
    around = [(0, -side % _LABEL_MULTIPLE) for side in size]
    return {
        "label": {
            name: np.pad(label, around, constant_values=-1) for name, label in example.label.items()
        },
        "label_size": np.array(size, np.int32),
    }


@dataclasses.dataclass(frozen=True)
class HostRows:
    """One host's rows of batches of equal shapes: positions `first` to `first + local` of each.

    What a last batch lacks is filled up.
    """

    rows: EpochRows | EvalRows
    whole: int  # rows of a global batch
    first: int
    local: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.whole) * self.local

    def __getitem__(self, number: int) -> Row:
        batch, row = divmod(number, self.local)
        position = batch * self.whole + self.first + row
        return self.rows[position] if position < len(self.rows) else empty(self.rows[0])


Rows = TrainRows | EpochRows | EvalRows | HostRows
