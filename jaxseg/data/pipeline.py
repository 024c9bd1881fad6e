"""From sources to batches on the mesh.

A batch is a function of (seed, step): position p of the endless run over the data belongs to epoch
p // (images of an epoch); an epoch is a permutation of the split drawn from (seed, epoch), cut to
whole batches; the views of an image are drawn from (seed, epoch, index). So resuming is starting at
a step, and neither threads nor worker processes change what is drawn. Each host reads its own rows.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.core import Batch, Stream, UserError
from jaxseg.data.source import Source
from jaxseg.views.geometry import EvalView, TrainView

Row = dict[str, Any]  # the fields of one image of a batch, NumPy arrays


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def draw_seed(seed: int, epoch: int, index: int) -> np.uint32:
    """Returns the seed of an image's views in an epoch, u32."""
    return np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint32)[0]


def spread(count: int, limit: int | None) -> tuple[int, ...]:
    """Returns `limit` indices spread evenly over 0..count - 1; all of them for None or 0."""
    if not limit or limit >= count:
        return tuple(range(count))
    return tuple(np.linspace(0, count - 1, limit).round().astype(int).tolist())


@dataclasses.dataclass(frozen=True)
class _TrainRows:
    """Random access to the rows of an endless run: position -> row."""

    source: Source
    view: TrainView
    views: int
    seed: int
    images_per_epoch: int
    host: tuple[int, int, int]  # rows of a host's batch, of a global batch, and the host's first
    labels: bool

    def __len__(self) -> int:
        return 2**62  # endless; grain wants a number

    def __getitem__(self, position: int) -> Row:
        local, whole, first = self.host
        step, row = divmod(position, local)
        epoch, place = divmod(step * whole + first + row, self.images_per_epoch)
        return self.row(epoch, int(_permutation(self.seed, epoch, len(self.source))[place]))

    def row(self, epoch: int, index: int) -> Row:
        """Returns image `index` with its views of `epoch`."""
        example = self.source[index]
        seed = draw_seed(self.seed, epoch, index)
        rng = np.random.default_rng(seed)
        maps = dict(example.label) if self.labels else {}
        if example.regions is not None:
            maps["regions"] = example.regions
        drawn = [self.view(example.image, maps, rng) for _ in range(self.views)]
        row: Row = {
            "index": np.int32(index),
            "seed": seed,
            "image": _stack([view.image for view in drawn]),
            "size": _stack([view.size for view in drawn]),
            "box": _stack([view.box for view in drawn]),
        }
        for name in maps:
            stacked = _stack([view.maps[name] for view in drawn])
            if name == "regions":
                row["regions"] = stacked
            else:
                # Labels belong to the first view, as a batch has one label map an image.
                row.setdefault("label", {})[name] = stacked[0]
        return row


def _stack(views: list[np.ndarray]) -> np.ndarray:
    """Returns the views along a new first axis; a single one is not copied for it."""
    return np.stack(views) if len(views) > 1 else views[0][None]


@dataclasses.dataclass(frozen=True)
class _EpochRows:
    """The rows of one epoch in index order: what a refit reads."""

    rows: _TrainRows
    epoch: int
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Row:
        return self.rows.row(self.epoch, self.indices[position])


@dataclasses.dataclass(frozen=True)
class _EvalRows:
    """Rows of a split as a test sees them."""

    source: Source
    view: EvalView
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Row:
        index = self.indices[position]
        example = self.source[index]
        image, label, size = self.view(example.image, example.label)
        return {
            "index": np.int32(index),
            "seed": np.uint32(0),
            "image": image[None],
            "size": size[None],
            "label": label,
        }


def fill_up(rows: list[Row], count: int) -> Row:
    """Returns the rows stacked to `count`: those added are black, with index -1 and labels -1."""
    missing = count - len(rows)
    if missing:
        empty = jax.tree.map(np.zeros_like, rows[0])
        empty["index"] = np.int32(-1)
        if "label" in empty:
            empty["label"] = {k: np.full_like(v, -1) for k, v in empty["label"].items()}
        rows = rows + [empty] * missing
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def _buckets(rows: Iterable[Row], batch_size: int) -> Iterator[Row]:
    """Groups rows of equal shapes into batches; what is left at the end is filled up."""
    waiting: dict[tuple, list[Row]] = collections.defaultdict(list)
    for row in rows:
        # Label maps keep the shape of their image, so the image's shape decides.
        bucket = waiting[row["image"].shape]
        bucket.append(row)
        if len(bucket) == batch_size:
            yield fill_up(bucket, batch_size)
            bucket.clear()
    for bucket in waiting.values():
        if bucket:
            yield fill_up(bucket, batch_size)


def _placer(mesh: Mesh) -> Callable[[Row], Batch]:
    """Returns a function from a host's rows to a Batch sharded over the mesh."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))

    def place(rows: Row) -> Batch:
        put = functools.partial(jax.make_array_from_process_local_data, sharding)
        return Batch(**jax.tree.map(put, rows))

    return place


def _ahead(batches: Iterable[Row], place: Callable[[Row], Batch], count: int) -> Iterator[Batch]:
    """Keeps `count` batches on their way to the device ahead of the one in use."""
    queue: collections.deque[Batch] = collections.deque()
    for rows in batches:
        queue.append(place(rows))
        if len(queue) > count:
            yield queue.popleft()
    yield from queue


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Batches of a training split and, in the test geometry, of any split.

    Attributes:
        source: the training split.
        view: geometry of a training view; views: how many views an image.
        eval_view: geometry of a test image.
        batch_size: images in a global batch.
        seed: of the order and of the views.
        mesh: where batches go.
        threads: reading threads in each process.
        workers: worker processes that read; 0 = threads of this process alone.
        prefetch: batches kept ready on the host.
        labels: whether training batches carry labels (for a method that reads them).

    Raises:
        UserError: a batch size that the devices do not divide, or larger than the split.
    """

    source: Source
    view: TrainView
    eval_view: EvalView
    batch_size: int
    seed: int
    mesh: Mesh
    views: int = 1
    threads: int = 2
    workers: int = 0
    prefetch: int = 4
    labels: bool = False

    def __post_init__(self):
        devices = self.mesh.size
        if self.batch_size < 1 or self.batch_size % devices:
            lower = self.batch_size // devices * devices
            raise UserError(
                f"data.batch_size is {self.batch_size}, which {devices} devices do not divide; "
                f"use {max(lower, devices)} or {lower + devices}."
            )
        if len(self.source) < self.batch_size:
            raise UserError(
                f"data.batch_size is {self.batch_size}, but the training split has only "
                f"{len(self.source)} images; lower it."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the images left over wait for another permutation."""
        return len(self.source) // self.batch_size

    def _rows(self) -> _TrainRows:
        local = self.batch_size // jax.process_count()
        return _TrainRows(
            source=self.source,
            view=self.view,
            views=self.views,
            seed=self.seed,
            images_per_epoch=self.steps_per_epoch * self.batch_size,
            host=(local, self.batch_size, jax.process_index() * local),
            labels=self.labels,
        )

    def _read(self, dataset: grain.MapDataset, start: int = 0) -> Iterator[Row]:
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.prefetch)
        read = dataset[start:].to_iter_dataset(options)
        if self.workers:
            # Worker processes read absl flags, which only absl.app parses.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            read = read.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers))
        return iter(read)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Returns the endless training batches from step `start` on."""
        rows = self._rows()
        dataset = grain.MapDataset.source(rows).batch(rows.host[0])
        return _ahead(self._read(dataset, start), _placer(self.mesh), 1)

    def stream(self, step: int) -> Stream:
        """Returns the epoch of `step` as a re-iterable stream.

        It holds every image of the split in index order, each with the views that training draws
        for it in that epoch; rows that fill up the last batch have index -1.
        """
        epoch = step // self.steps_per_epoch

        def stream(batch_size: int | None = None, limit: int | None = None) -> Iterable[Batch]:
            rows = _EpochRows(self._rows(), epoch, spread(len(self.source), limit))
            return self._bounded(grain.MapDataset.source(rows), batch_size)

        return stream

    def eval_stream(self, source: Source | None = None, limit: int = 0) -> Stream:
        """Returns a source's images (default: the training split's) in the test geometry.

        The stream holds the images in order, or `limit` of them spread over the split (0 = all).
        Images of one padded shape share a batch; rows that fill up a batch have index -1 and
        labels -1.
        """
        source = self.source if source is None else source

        def stream(batch_size: int | None = None, limit: int | None = limit) -> Iterable[Batch]:
            rows = _EvalRows(source, self.eval_view, spread(len(source), limit))
            return self._bounded(grain.MapDataset.source(rows), batch_size)

        return stream

    def _bounded(self, dataset: grain.MapDataset, batch_size: int | None) -> Iterator[Batch]:
        rows = self._read(dataset)
        return _ahead(_buckets(rows, batch_size or self.batch_size), _placer(self.mesh), 1)
