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

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from absl import logging

from jaxseg.core import UserError
from jaxseg.data.disk import new_file

FIELD = "data.tokens"  # of the config; for messages

_DTYPE = np.dtype(np.float16)
_OPEN_SHARDS = 256  # each takes a file descriptor, of which a process often has 1,024


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
    def total_bytes(self) -> int:
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
        return len(self.header(number)) + len(self.rows(number)) * self.image_bytes

    def header(self, number: int) -> bytes:
        """Returns the start of a shard's file, before the features."""
        return _header((len(self.rows(number)), *self.shape))

    def is_whole(self, number: int) -> bool:
        """Says whether a shard's file is there, of the right size and with the right header."""
        header = self.header(number)
        try:
            with self.path(number).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return size == self.shard_bytes(number) and file.read(len(header)) == header
        except OSError:
            return False

    def manifest(self) -> dict[str, Any]:
        """Returns what the file manifest.json of a complete cache holds."""
        return {
            "fingerprint": pathlib.Path(self.folder).name,
            "dtype": _DTYPE.name,
            "count": self.count,
            "shape": list(self.shape),
            "shard_rows": self.shard_rows,
            "shard_bytes": [self.shard_bytes(number) for number in range(self.shards)],
        }

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
            if len(self._maps) >= _OPEN_SHARDS:
                self._maps.clear()
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
        return unit_means(self[index] for index in range(self.count))

    def derived(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns make(), kept beside the features as `name`.npy from the first call on.

        Whatever the array depends on besides the features belongs into `name`.
        """
        path = pathlib.Path(self.folder, f"{name}.npy")
        with contextlib.suppress(OSError, ValueError, EOFError):
            return np.load(path, allow_pickle=False)
        array = make()
        try:
            with new_file(path, array.nbytes, FIELD) as file:
                np.save(file, array, allow_pickle=False)
        except OSError as error:
            # A cache that somebody else made may be there to read alone.
            logging.warning("cannot keep %s: %s", path, error)
        return array


def open_tokens(folder: pathlib.Path, count: int) -> TokenStore | None:
    """Returns the cache of `count` images in a folder named by its fingerprint.

    Returns None unless the manifest is as expected and every shard is whole.
    """
    try:
        stored = json.loads((folder / "manifest.json").read_text())
        height, width, channels = stored["shape"]
        store = TokenStore(str(folder), count, (height, width, channels), stored["shard_rows"])
        same = stored == store.manifest()
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    return store if same and all(map(store.is_whole, range(store.shards))) else None


def unit_means(tokens: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the means of features f16[h w D] over their cells, of length 1, f32[N D]."""
    means = np.stack([one.mean((0, 1), dtype=np.float32) for one in tokens])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


@functools.lru_cache(maxsize=8)
def _header(shape: tuple[int, ...]) -> bytes:
    """Returns the start of a .npy file of float16 in C order."""
    buffer = io.BytesIO()
    description = {"descr": _DTYPE.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
