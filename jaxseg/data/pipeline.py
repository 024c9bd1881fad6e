"""From sources to batches on the mesh.

A batch is a function of (seed, step): position p of the endless run over the data belongs to epoch
p // (images of an epoch); an epoch is a permutation of the split drawn from (seed, epoch), cut to
whole batches; the views of an image are drawn from (seed, epoch, index). So resuming is starting at
a step, and neither threads nor worker processes change what is drawn. Each host reads its own rows.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh

from jaxseg.core import Batch, Stream, UserError
from jaxseg.data.rows import EpochRows, EvalRows, HostRows, Row, Rows, TrainRows, empty, stack
from jaxseg.data.source import Source
from jaxseg.data.tokens import TokenStore
from jaxseg.sharding import over_all
from jaxseg.views.geometry import EvalView, TrainView

_EVALUATED = 8  # images that a device evaluates at once, at most
# What a thread reads before it hands over: handing over a batch of a few small images takes a tenth
# of the time of reading it.
_IMAGES_TOGETHER, _PIXELS_TOGETHER = 64, 6 << 20
_SMALL = 1 << 12  # bytes of an array that is copied rather than taken over by the device


def spread(count: int, limit: int | None) -> tuple[int, ...]:
    """Returns `limit` indices spread evenly over 0..count - 1; all of them for None or 0."""
    if not limit or limit >= count:
        return tuple(range(count))
    return tuple(np.linspace(0, count - 1, limit).round().astype(int).tolist())


def fill_up(rows: list[Row], count: int) -> Row:
    """Returns the rows stacked to `count`; see `rows.empty`."""
    missing = count - len(rows)
    return stack(rows + [empty(rows[0])] * missing if missing else rows)


def _buckets(rows: Iterable[Row], batch_size: int) -> Iterator[Row]:
    """Groups rows of equal shapes into batches; what is left at the end is filled up."""
    waiting: dict[tuple, list[Row]] = collections.defaultdict(list)
    for row in rows:
        bucket = waiting[tuple(np.shape(part) for part in jax.tree.leaves(row))]
        bucket.append(row)
        if len(bucket) == batch_size:
            yield fill_up(bucket, batch_size)
            bucket.clear()
    for bucket in waiting.values():
        if bucket:
            yield fill_up(bucket, batch_size)


def _in_threads(
    rows: Rows, start: int, threads: int, ahead: int, together: int = 1
) -> Iterator[Row]:
    """Yields rows[start:] in order, read by threads that keep `ahead` of them ready.

    Each thread reads `together` of them at a time. Beside those that are ready each has some in
    hand, so that none waits for the reader to ask for more.
    """

    def read(first: int) -> list[Row]:
        return [rows[index] for index in range(first, min(first + together, len(rows)))]

    firsts = iter(range(start, len(rows), together))
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        waiting = collections.deque(
            pool.submit(read, first)
            for first in itertools.islice(firsts, -(-ahead // together) + threads)
        )
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(read, first) for first in itertools.islice(firsts, 1))
            yield from found
    finally:  # also where the reader stops half-way
        pool.shutdown(wait=False, cancel_futures=True)


def _same(rows: Row) -> Row:
    return rows


def _placer(mesh: Mesh) -> Callable[[Row], Batch]:
    """Returns a function from a host's rows to a Batch sharded over the mesh."""
    sharding = over_all(mesh)
    copy = jax.jit(_same, in_shardings=sharding, out_shardings=sharding)

    def put(array: np.ndarray) -> jax.Array:
        if jax.process_count() > 1:
            return jax.make_array_from_process_local_data(sharding, array)
        # The same of the rows of one host, in a quarter of the time.
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    def place(rows: Row) -> Batch:
        # A compiled call places all small arrays in the time of one. It copies what it is given,
        # and takes longer with several devices.
        small = {name: x for name, x in rows.items() if mesh.size == 1 and _is_small(x)}
        large = {name: x for name, x in rows.items() if name not in small}
        return Batch(**jax.tree.map(put, large), **(copy(small) if small else {}))

    return place


def _is_small(value: np.ndarray | dict[str, np.ndarray]) -> bool:
    return isinstance(value, np.ndarray) and value.nbytes <= _SMALL


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
        regions: whether training batches carry regions, which the source's examples then have.
        tokens: cached features of the training views, in the order of the split. Training rows hold
            them in the place of image, size and box, and images are only read for labels.
        partners: i32[N P], others that go with each image, such as its neighbours. One of them is
            drawn from (seed, epoch, index), and its view comes last, after those of the image.

    Raises:
        UserError: a batch size that the devices do not divide, or larger than the split; cached
            features of views that are not always the same.
        ValueError: features or partners of another number of images.
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
    regions: bool = False
    tokens: TokenStore | None = None
    partners: np.ndarray | None = None

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
        for other in (self.tokens, self.partners):
            if other is not None and len(other) != len(self.source):
                raise ValueError(
                    f"{len(other)} rows of features or partners for {len(self.source)} images"
                )
        if self.tokens is not None:
            self.check_fixed()

    def check_fixed(self) -> None:
        """Raises UserError unless an image has one training view, always the same."""
        view = self.view
        settings = {
            "data.flip=False": not view.flip,
            "data.scale=(1, 1)": view.scale[0] == view.scale[1],
            "data.position='centre'": view.position == "centre",
            "data.views=1": self.views == 1,
        }
        if wrong := [setting for setting, is_set in settings.items() if not is_set]:
            raise UserError(
                "data.tokens keeps the features of one view of each image, but training views are "
                f"drawn at random; set {', '.join(wrong)}, or leave data.tokens empty."
            )

    def fixed_view(self, index: int) -> np.ndarray:
        """Returns the training view of image `index`, u8[crop crop Ch], where it has only one."""
        return self.view(self.source[index].image, {}, np.random.default_rng(0)).image

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the images left over wait for another permutation."""
        return len(self.source) // self.batch_size

    def _rows(self) -> TrainRows:
        local = self.batch_size // jax.process_count()
        return TrainRows(
            source=self.source,
            view=self.view,
            views=self.views,
            seed=self.seed,
            images_per_epoch=self.steps_per_epoch * self.batch_size,
            host=(local, self.batch_size, jax.process_index() * local),
            labels=self.labels,
            regions=self.regions,
            tokens=self.tokens,
            partners=self.partners,
        )

    @property
    def _together(self) -> int:
        """How many training batches a thread reads before it hands them over."""
        images = min(_IMAGES_TOGETHER, _PIXELS_TOGETHER // (self.views * self.view.crop**2))
        return max(1, images * jax.process_count() // self.batch_size)

    def _read(self, rows: Rows, start: int = 0, together: int = 1) -> Iterator[Row]:
        if not self.workers:
            return _in_threads(rows, start, self.threads, self.prefetch, together)
        # Worker processes read absl flags, which only absl.app parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=self.prefetch)
        read = grain.MapDataset.source(rows)[start:].to_iter_dataset(options)
        return iter(read.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers)))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Returns the endless training batches from step `start` on."""
        rows = self._rows()
        return _ahead(self._read(rows, start, self._together), _placer(self.mesh), 1)

    def stream(self, step: int) -> Stream:
        """Returns the epoch of `step` as a re-iterable stream.

        It holds every image of the split in index order, each with the views that training draws
        for it in that epoch; rows that fill up the last batch have index -1.
        """
        epoch = step // self.steps_per_epoch

        def stream(batch_size: int | None = None, limit: int | None = None) -> Iterable[Batch]:
            rows = EpochRows(self._rows(), epoch, spread(len(self.source), limit))
            return self._bounded(rows, batch_size or self.batch_size, one_shape=True)

        return stream

    def eval_stream(
        self, source: Source | None = None, limit: int = 0, original: bool = False
    ) -> Stream:
        """Returns a source's images (default: the training split's) in the test geometry.

        With `original`, labels keep the size of their image, as `Batch.label_size` says.
        The stream holds the images in order, or `limit` of them spread over the split (0 = all).
        Images of one padded shape share a batch, by default of no more than 8 a device: scores of
        all classes at every pixel take more room than training does, and what fills up the last
        batch is computed for nothing. Such rows have index -1 and labels -1.
        """
        source = self.source if source is None else source
        usual = min(self.batch_size, _EVALUATED * self.mesh.size)

        def stream(batch_size: int | None = None, limit: int | None = limit) -> Iterable[Batch]:
            rows = EvalRows(source, self.eval_view, spread(len(source), limit), original)
            one_shape = self.eval_view.crop > 0 and not original
            return self._bounded(rows, batch_size or usual, one_shape)

        return stream

    def _bounded(
        self, rows: EpochRows | EvalRows, batch_size: int, one_shape: bool
    ) -> Iterator[Batch]:
        """Returns all rows in batches; where they may differ in shape, every host reads them all.

        For which image goes into which batch is then known only from the images.
        """
        local = batch_size // jax.process_count()
        first = jax.process_index() * local
        if one_shape and local < batch_size:
            own = self._read(HostRows(rows, batch_size, first, local))
            batches = _buckets(own, local)
        else:
            whole = _buckets(self._read(rows), batch_size)
            part = slice(first, first + local)
            batches = (jax.tree.map(lambda x: x[part], batch) for batch in whole)
        return _ahead(batches, _placer(self.mesh), 1)
