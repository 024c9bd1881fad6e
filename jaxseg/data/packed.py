"""Packed data sets as a source: shards of records (see `records`) that `prepare pack` has written.

    root/manifest.json                            what is packed, and how (see `read_manifest`)
    root/<split>-<number>-of-<count>.arrayrecord  the examples of a split, in their order

A packed split gives the very examples that were packed, in the same order, so that a run on it is
the same run; it needs a few large files in the place of hundreds of thousands of small ones.
"""

import bisect
import dataclasses
import functools
import itertools
import json
import os
import threading
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from jaxseg.core import UserError
from jaxseg.data.fingerprint import digest
from jaxseg.data.images import Unreadable
from jaxseg.data.records import decode_example
from jaxseg.data.source import Example

MANIFEST = "manifest.json"
FORMAT = {"format": "jaxseg-packed", "version": 1}

# Random access reads one record at a time, so that nothing is to be read ahead.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_READER_BUFFER = 32768  # bytes; the default of 1 MiB would be read for every record


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a split, as the manifest describes it."""

    file: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Packed:
    """One split of a packed data set; made by `open_packed`.

    A copy made with `dataclasses.replace(source, classes={})` decodes no labels. Files are opened
    when they are first read, once in a process.

    Raises:
      Unreadable: a record is damaged (every one carries a checksum).
    """

    root: str
    shards: tuple[Shard, ...]
    classes: dict[str, tuple[str, ...]]
    channels: int
    skipped: tuple[str, ...] = ()
    rule: str = ""
    _readers: dict[int, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    _lock: Any = dataclasses.field(default_factory=threading.Lock, compare=False, repr=False)

    @functools.cached_property
    def _ends(self) -> tuple[int, ...]:
        """Where each shard ends: the index after its last example."""
        return tuple(itertools.accumulate(shard.records for shard in self.shards))

    @property
    def fingerprint(self) -> str:
        """That of the shards' contents."""
        return digest("packed", [shard.sha256 for shard in self.shards], self.channels)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        number = bisect.bisect_right(self._ends, index)
        shard = self.shards[number]
        place = index - self._ends[number] + shard.records
        try:
            (record,) = self._reader(number).read([place])
            return decode_example(record, self.channels, labels=bool(self.classes))
        except (RuntimeError, ValueError, IndexError, Unreadable) as error:
            raise Unreadable(
                f"cannot read record {place} of {os.path.join(self.root, shard.file)}: {error}. "
                "Delete the packed folder and pack the data set again"
            ) from error

    def _reader(self, number: int) -> ArrayRecordReader:
        reader = self._readers.get(number)
        if reader is None:
            with self._lock:
                if (reader := self._readers.get(number)) is None:
                    reader = self._readers[number] = self._open(self.shards[number])
        return reader

    def _open(self, shard: Shard) -> ArrayRecordReader:
        path = os.path.join(self.root, shard.file)
        reader = ArrayRecordReader(path, _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER)
        if reader.num_records() != shard.records:
            raise ValueError(
                f"it holds {reader.num_records()} records, the manifest says {shard.records}"
            )
        return reader

    def __getstate__(self):
        # A worker process opens the files for itself.
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name[0] != "_"}

    def __setstate__(self, state):
        self.__init__(**state)  # type: ignore[misc]


def open_packed(root: str, split: str, channels: int = 3) -> Packed:
    """Opens a split of the packed data set in the folder `root`; its files must have their sizes.

    Raises:
      UserError: there is no manifest, or one of another form; the split is not in it; it was packed
        with other `channels`; a file is missing or has another size than was written.
    """
    if not root:
        raise UserError("data.root is empty; set it to the folder that `prepare pack` wrote")
    top = os.path.abspath(os.path.expanduser(root))
    manifest = read_manifest(top)
    if split not in manifest["splits"]:
        raise UserError(
            f"{top} holds no packed split {split!r}; it has {sorted(manifest['splits'])}. Name one "
            "in data.train_split and data.test_split, or pack it"
        )
    if channels != manifest["channels"]:
        raise UserError(
            f"data.channels is {channels}; {top} was packed with {manifest['channels']}. Set it "
            "so, or pack the data set again"
        )
    entry = manifest["splits"][split]
    shards = tuple(Shard(**shard) for shard in entry["shards"])
    check_sizes(top, shards)
    return Packed(
        root=top,
        shards=shards,
        classes={kind: tuple(names) for kind, names in entry["classes"].items()},
        channels=channels,
        skipped=tuple(entry["skipped"]),
        rule=entry["rule"],
    )


def read_manifest(folder: str) -> dict[str, Any]:
    """Returns the manifest of a packed data set.

    Its keys: format and version; source (a key of SOURCES), fields (those that it was opened with,
    but for the root), channels, jaxseg (the version that packed), and splits: by name the count,
    classes, rule (how the list of images came about), skipped, names_sha256 (of the names, a line
    each), smallest and largest (sides of the images, height and width each by itself), and shards:
    file, records, bytes and sha256 of each.

    Raises:
      UserError: there is none, it is damaged, or it is of another version.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}. A packed data set holds this file; write one "
            f"with: python -m jaxseg.prepare pack NAME --root=DIR --out={folder}"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); pack the data set again") from error
    found = {key: manifest.get(key) for key in FORMAT} if isinstance(manifest, dict) else manifest
    if found != FORMAT:
        raise UserError(f"{path} says {found}; expected {FORMAT}. Pack the data set again")
    return manifest


def check_sizes(folder: str, shards: tuple[Shard, ...]) -> None:
    """Raises UserError for the first shard that is missing or has another size than was written."""
    for shard in shards:
        path = os.path.join(folder, shard.file)
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise UserError(
                f"packed shard {path}: {error.strerror}. Copy the folder again, or pack again"
            ) from error
        if size != shard.bytes:
            raise UserError(
                f"packed shard {path} has {size} bytes; the manifest says {shard.bytes}. Copy the "
                "folder again, or pack again"
            )
