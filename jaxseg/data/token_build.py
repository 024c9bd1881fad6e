"""Building the token cache: reading images, encoding them and writing shards, in one pass."""

import collections
import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.disk import locked, new_file, require_room
from jaxseg.data.tokens import FIELD, TokenStore, open_tokens, unit_means

SHARD_BYTES = 256 * 2**20

Read = Callable[[int], np.ndarray]  # index -> image u8[H W Ch], all of one size
Encode = Callable[[np.ndarray], Any]  # images u8[B H W Ch] -> features f[B h w D]

_PROGRESS_SECONDS = 2.0


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
        fingerprint: of all that the features depend on (see `fingerprint.of_features`).
        read: gives an image by its index; called from `threads` threads.
        encode: gives features, f32 or f16, of a batch of `batch_size` images; always of this size,
            the last one filled up by repetition.
        progress: told how many images are done, every few seconds.

    Raises:
        UserError: the disk is or becomes too full, or the directory cannot be written; a feature is
            not finite in float16; or what `read` raises.
    """
    folder = pathlib.Path(directory).expanduser() / fingerprint
    if store := open_tokens(folder, count):
        return store
    with locked(folder, FIELD) as alone:
        # Whoever held the lock may have built it.
        if store := open_tokens(folder, count):
            return store
        if alone:
            for left in folder.glob("*.tmp"):
                left.unlink()
        # The shape is known once a batch is computed.
        first = next(_encoded([0], read, encode, batch_size, threads))
        store = _plan(folder, count, first.shape)
        _build(store, read, encode, batch_size, threads, progress)
        manifest = json.dumps(store.manifest(), indent=1) + "\n"
        with new_file(folder / "manifest.json", len(manifest), FIELD) as file:
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
        narrow = features.astype(np.float16)
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
    return unit_means(_encoded(range(count), read, encode, batch_size, threads))


def _plan(folder: pathlib.Path, count: int, shape: tuple[int, ...]) -> TokenStore:
    """Returns the store to be built, its shards as large as they may be."""
    if len(shape) != 3:
        raise ValueError(f"features of an image have the shape {shape}, expected (h, w, D)")
    height, width, channels = shape
    one = TokenStore(str(folder), count, (height, width, channels), 1)
    rows = max(1, SHARD_BYTES // one.image_bytes)
    return dataclasses.replace(one, shard_rows=min(rows, count))


def _build(
    store: TokenStore,
    read: Read,
    encode: Encode,
    batch_size: int,
    threads: int,
    progress: Callable[[int], None],
) -> None:
    """Computes and writes the shards that are not there yet."""
    missing = [number for number in range(store.shards) if not store.is_whole(number)]
    needed = sum(map(store.shard_bytes, missing))
    require_room(pathlib.Path(store.folder), needed, FIELD)
    indices = itertools.chain.from_iterable(map(store.rows, missing))
    left = sum(len(store.rows(number)) for number in missing)
    encode = _reporting(encode, batch_size, store.count - left, store.count, progress)
    tokens = _encoded(indices, read, encode, batch_size, threads)
    for number in missing:
        with new_file(store.path(number), needed, FIELD) as file:
            file.write(store.header(number))
            for row in itertools.islice(tokens, len(store.rows(number))):
                file.write(row.tobytes())
        needed -= store.shard_bytes(number)


def _reporting(
    encode: Encode, batch_size: int, done: int, count: int, progress: Callable[[int], None]
) -> Encode:
    """Returns `encode` that tells how many of `count` images are done, now and then and at the end.

    It tells after a batch, so that a rate between two calls counts the time of whole batches.
    """
    reported = time.monotonic()

    def reporting(images: np.ndarray) -> np.ndarray:
        nonlocal done, reported
        features = np.asarray(encode(images))
        done = min(done + batch_size, count)
        if done == count or time.monotonic() - reported > _PROGRESS_SECONDS:
            reported = time.monotonic()
            progress(done)
        return features

    return reporting
