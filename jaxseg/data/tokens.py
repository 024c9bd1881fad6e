"""The token cache: frozen features of a split, computed once and read from disk afterwards.

Below the directory of the cache, each set of features has a folder named by its fingerprint:

    <fingerprint>/tokens-00000.npy ...   f16[n h w D], the features of n images in index order
    <fingerprint>/manifest.json          what the shards hold; written last, so that a cache
                                         without it is unfinished
    <fingerprint>/<name>.npy             arrays derived from the features, such as neighbours

The fingerprint covers weights, architecture, images and geometry, so that a change of any leads to
another folder, and features are never taken for those of other inputs. A file gets its name when it
is complete and on the disk: a build that was killed goes on after its finished shards. One process
builds at a time, those that come later wait and then read what it made. So hosts that share a
folder need one build between them; hosts with folders of their own make a copy each. `encode` must
run on local devices alone, or the hosts that wait would hold up the one that computes.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import itertools
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from absl import logging

from jaxseg.core import UserError
from jaxseg.data.disk import locked, new_file, too_full

SHARD_BYTES = 256 * 2**20

Read = Callable[[int], np.ndarray]  # index -> image u8[H W Ch], all of one size
Encode = Callable[[np.ndarray], Any]  # images u8[B H W Ch] -> features f[B h w D]

_DTYPE = np.dtype(np.float16)
_FIELD = "data.tokens"
_PROGRESS_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """Random access to cached features: `store[i]` is f16[h w D]; made by `build_tokens`.

    Shards are mapped into memory when they are first read, in each process by itself, so that a
    store travels to worker processes as a few names.

    Raises:
        UserError: a shard was removed or changed since the store was opened.
    """

    folder: str
    count: int
    shape: tuple[int, int, int]  # h w D
    shard_rows: int  # images in a shard; the last one may hold fewer
    _maps: dict[int, np.ndarray] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def bytes(self) -> int:
        """The disk space of the features."""
        return sum(self.shard_bytes(number) for number in range(self.shards))

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.count // self.shard_rows)

    def rows(self, number: int) -> range:
        """Returns the indices of the images that a shard holds."""
        start = number * self.shard_rows
        return range(start, min(start + self.shard_rows, self.count))

    def path(self, number: int) -> pathlib.Path:
        """Returns the file of a shard."""
        return pathlib.Path(self.folder, f"tokens-{number:05d}.npy")

    def shard_bytes(self, number: int) -> int:
        """Returns the size of a complete shard's file."""
        rows = len(self.rows(number))
        return len(_header((rows, *self.shape))) + rows * self.image_bytes

    @property
    def image_bytes(self) -> int:
        """The disk space of an image's features."""
        return int(np.prod(self.shape)) * _DTYPE.itemsize

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        number, row = divmod(range(self.count)[index], self.shard_rows)
        shard = self._maps.get(number)
        if shard is None:
            shard = self._maps[number] = self._open(number)
        # A copy, so that the disk is read here, in a reading thread, not where the array is used.
        return np.array(shard[row])

    def _open(self, number: int) -> np.ndarray:
        expected = (len(self.rows(number)), *self.shape)
        try:
            shard = np.load(self.path(number), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read the token cache {self.path(number)}: {error}. It was changed while "
                "in use; start again, and what is missing is computed anew"
            ) from error
        if shard.shape != expected or shard.dtype != _DTYPE:
            raise UserError(
                f"the token cache {self.path(number)} holds {shard.dtype} of shape {shard.shape}, "
                f"expected float16 of shape {expected}. Remove the file and start again"
            )
        return shard

    def __getstate__(self):
        return {**self.__dict__, "_maps": {}}

    def __setstate__(self, state):
        self.__dict__.update(state)

    def means(self) -> np.ndarray:
        """Returns the mean of each image's features, of length 1, f32[N D]; reads all of them."""
        return _means((self[index] for index in range(self.count)), self.count)

    def derived(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns make(), kept beside the features as `name`.npy from the first call on.

        Whatever the array depends on besides the features belongs into `name`.
        """
        path = pathlib.Path(self.folder, f"{name}.npy")
        with contextlib.suppress(OSError, ValueError, EOFError):
            return np.load(path, allow_pickle=False)
        array = make()
        try:
            with new_file(path, array.nbytes, _FIELD) as file:
                np.save(file, array, allow_pickle=False)
        except OSError as error:
            # A cache that somebody else made may be there to read alone.
            logging.warning("cannot keep %s: %s", path, error)
        return array


def build_tokens(
    directory: str | os.PathLike[str],
    fingerprint: str,
    count: int,
    read: Read,
    encode: Encode,
    batch_size: int,
    threads: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> TokenStore:
    """Returns the features of `count` images, from the cache where it is complete, else computed.

    Args:
        directory: where caches lie; made if it is not there.
        fingerprint: of all that the features depend on (see `fingerprint`).
        read: gives an image by its index; called from `threads` threads.
        encode: gives features, f32 or f16, of a batch of `batch_size` images; always of this size,
            the last one filled up by repetition.
        progress: told how many images are done, every few seconds.

    Raises:
        UserError: the disk is or becomes too full, or the directory cannot be written; a feature is
            not finite in float16; or what `read` raises.
    """
    folder = pathlib.Path(directory).expanduser() / fingerprint
    if store := _complete(folder, fingerprint, count):
        return store
    with locked(folder, _FIELD) as alone:
        # Whoever held the lock may have built it.
        if store := _complete(folder, fingerprint, count):
            return store
        if alone:
            for left in folder.glob("*.tmp"):
                left.unlink()
        # The shape is known once a batch is computed.
        first = next(_encoded([0], read, encode, batch_size, threads))
        store = _plan(folder, count, first.shape)
        _build(store, read, encode, batch_size, threads, progress)
        manifest = json.dumps(_manifest(store, fingerprint), indent=1) + "\n"
        with new_file(folder / "manifest.json", len(manifest), _FIELD) as file:
            file.write(manifest.encode())
        return store


def _encoded(
    indices: Iterable[int], read: Read, encode: Encode, batch_size: int, threads: int
) -> Iterator[np.ndarray]:
    """Yields the features f16[h w D] of images in order, computed in batches of `batch_size`.

    The images of a batch are read while the one before it is encoded. Raises UserError where a
    feature is not finite in float16.
    """
    indices = iter(indices)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[list[concurrent.futures.Future[np.ndarray]]] = (
            collections.deque()
        )
        while True:
            if chunk := list(itertools.islice(indices, batch_size)):
                waiting.append([pool.submit(read, index) for index in chunk])
            if not waiting:
                return
            if len(waiting) > 1 or not chunk:
                images = [future.result() for future in waiting.popleft()]
                yield from _encode_batch(images, encode, batch_size)


def _encode_batch(images: list[np.ndarray], encode: Encode, batch_size: int) -> np.ndarray:
    filled = images + images[-1:] * (batch_size - len(images))
    features = np.asarray(encode(np.stack(filled)))[: len(images)]
    with np.errstate(over="ignore"):
        narrow = features.astype(_DTYPE)
    if not np.isfinite(narrow).all():
        raise UserError(
            f"data.tokens: the features reach {np.abs(features).max():g}, which float16 cannot "
            "hold (65504 at most); check the weights, or leave data.tokens empty"
        )
    return narrow


def mean_features(
    count: int, read: Read, encode: Encode, batch_size: int, threads: int = 2
) -> np.ndarray:
    """Returns what `TokenStore.means` does, f32[N D], computed without keeping the features."""
    return _means(_encoded(range(count), read, encode, batch_size, threads), count)


def _means(tokens: Iterable[np.ndarray], count: int) -> np.ndarray:
    means = np.stack(
        [one.mean((0, 1), dtype=np.float32) for one in itertools.islice(tokens, count)]
    )
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _plan(folder: pathlib.Path, count: int, shape: tuple[int, ...]) -> TokenStore:
    """Returns the store to be built, its shards as large as they may be."""
    if len(shape) != 3:
        raise ValueError(f"features of an image have the shape {shape}, expected (h, w, D)")
    height, width, channels = shape
    image_bytes = height * width * channels * _DTYPE.itemsize
    rows = max(1, SHARD_BYTES // image_bytes)
    return TokenStore(str(folder), count, (height, width, channels), min(rows, count))


def _build(
    store: TokenStore,
    read: Read,
    encode: Encode,
    batch_size: int,
    threads: int,
    progress: Callable[[int], None],
) -> None:
    """Computes and writes the shards that are not there yet."""
    missing = [number for number in range(store.shards) if not _is_whole(store, number)]
    needed = sum(map(store.shard_bytes, missing))
    if (free := shutil.disk_usage(store.folder).free) < needed:
        raise too_full(pathlib.Path(store.folder), needed, free, _FIELD)
    indices = itertools.chain.from_iterable(map(store.rows, missing))
    tokens = _encoded(indices, read, encode, batch_size, threads)
    done = store.count - sum(len(store.rows(number)) for number in missing)
    reported = time.monotonic()
    for number in missing:
        rows = len(store.rows(number))
        with new_file(store.path(number), needed, _FIELD) as file:
            file.write(_header((rows, *store.shape)))
            for row in itertools.islice(tokens, rows):
                file.write(row.tobytes())
                done += 1
                if done == store.count or time.monotonic() - reported > _PROGRESS_SECONDS:
                    reported = time.monotonic()
                    progress(done)
        needed -= store.shard_bytes(number)


@functools.lru_cache(maxsize=8)
def _header(shape: tuple[int, ...]) -> bytes:
    """Returns the start of a .npy file of float16 in C order."""
    buffer = io.BytesIO()
    description = {"descr": _DTYPE.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _is_whole(store: TokenStore, number: int) -> bool:
    """Says whether a shard's file is there, of the right size and with the right header."""
    header = _header((len(store.rows(number)), *store.shape))
    try:
        with store.path(number).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return size == store.shard_bytes(number) and file.read(len(header)) == header
    except OSError:
        return False


def _manifest(store: TokenStore, fingerprint: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "dtype": _DTYPE.name,
        "count": store.count,
        "shape": list(store.shape),
        "shard_rows": store.shard_rows,
        "shard_bytes": [store.shard_bytes(number) for number in range(store.shards)],
    }


def _complete(folder: pathlib.Path, fingerprint: str, count: int) -> TokenStore | None:
    """Returns the store in a folder if the manifest is as expected and the shards are whole."""
    try:
        stored = json.loads((folder / "manifest.json").read_text())
        height, width, channels = stored["shape"]
        store = TokenStore(str(folder), count, (height, width, channels), stored["shard_rows"])
        same = stored == _manifest(store, fingerprint)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    return store if same and all(_is_whole(store, n) for n in range(store.shards)) else None
