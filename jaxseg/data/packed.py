"""Packed data sets as a source: shards of records (see `records`) that `prepare pack` has written.

    root/manifest.json                            what is packed, and how (see `read_manifest`)
    root/<split>-<number>-of-<count>.arrayrecord  the examples of a split, in their order

A packed split gives the very examples that were packed, in the same order, so that a run on it is
the same run; it needs a few large files in the place of hundreds of thousands of small ones. The
config of the data set that was packed is one of the packed set too, see `drop_source_fields`.
"""

import bisect
import dataclasses
import functools
import inspect
import itertools
import json
import os
import shlex
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader

from jaxseg.core import UserError
from jaxseg.data.fingerprint import digest
from jaxseg.data.folder import few
from jaxseg.data.images import Unreadable
from jaxseg.data.records import decode_example
from jaxseg.data.source import Example, Source

MANIFEST = "manifest.json"
FORMAT = {"format": "jaxseg-packed", "version": 1}

# Random access reads one record at a time, so that nothing is to be read ahead.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_READER_BUFFER = 32768  # bytes; the default of 1 MiB would be read for every record

# Fields of a source that say how its files are looked at, not which examples it has.
_OPENING = {"on_corrupt", "check", "lists_dir"}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a split, as the manifest describes it."""

    file: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Packed:
    """One split of a packed data set, or several in a row; made by `open_packed`.

    An example without labels, where others have some, gets labels of -1 everywhere. A copy made
    with `dataclasses.replace(source, classes={})` decodes no labels. Files are opened when they are
    first read, once in a process.

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
            example = decode_example(record, self.channels, labels=bool(self.classes))
        except (RuntimeError, ValueError, IndexError, Unreadable) as error:
            raise Unreadable(
                f"cannot read record {place} of {os.path.join(self.root, shard.file)}: {error}. "
                "Delete the packed folder and pack the data set again"
            ) from error
        bare = self.classes.keys() - example.label.keys()
        if not bare:
            return example
        ignored = {kind: np.full(example.image.shape[:2], -1, np.int32) for kind in bare}
        return dataclasses.replace(example, label=example.label | ignored)

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

    A split that was not packed itself, such as "train+val", is its parts one after the other, as in
    the sources that join splits. An image that is in two of them comes twice, where the source of
    Potsdam has it once. Of a folder that was packed as a whole, every split is the whole.

    Raises:
      UserError: there is no manifest, or one of another form; the split is not in it; it was packed
        with other `channels`; a file is missing or has another size than was written.
    """
    top, manifest = _open_manifest(root)
    entries = [manifest["splits"][part] for part in _parts(top, manifest, split)]
    if channels != manifest["channels"]:
        raise UserError(
            f"data.channels is {channels}; {top} was packed with {manifest['channels']}. Set it "
            "so, or pack the data set again"
        )
    shards = tuple(Shard(**shard) for entry in entries for shard in entry["shards"])
    check_sizes(top, shards)
    skipped = tuple(name for entry in entries for name in entry["skipped"])
    if skipped:
        logging.warning(
            "%s %r: %d images could not be read when it was packed, and have others in their "
            "place: %s", top, split, len(skipped), few(skipped),
        )  # fmt: skip
    return Packed(
        root=top,
        shards=shards,
        classes={
            kind: tuple(names) for entry in entries for kind, names in entry["classes"].items()
        },
        channels=channels,
        skipped=skipped,
        rule="; ".join(dict.fromkeys(entry["rule"] for entry in entries if entry["rule"])),
    )


def _parts(top: str, manifest: Mapping[str, Any], split: str) -> tuple[str, ...]:
    """Returns the packed splits that a split consists of."""
    packed = manifest["splits"]
    if split not in packed and "" in packed and "{split}" not in json.dumps(manifest["fields"]):
        return ("",)  # a folder, all of whose images are in every split
    parts = (split,) if split in packed else tuple(split.split("+"))
    missing = [part for part in parts if part not in packed]
    if missing or len(set(parts)) < len(parts):
        raise UserError(
            f"{top} holds no packed split {split!r}; it has {sorted(packed)}. Name one, or "
            "several, each once, joined by '+', in data.train_split and data.test_split, or pack "
            f"it: python -m jaxseg.prepare pack {manifest['source']} --root=DIR --out={top} "
            f"--split={','.join(missing or parts)}"
        )
    return parts


def drop_source_fields(
    values: Mapping[str, Any], sources: Mapping[str, Callable[..., Source]]
) -> dict[str, Any]:
    """Returns fields of the section `data` without those of the source that was packed.

    So a config of that data set opens the packed one. Fields that decide what was packed have to be
    those of the manifest; `on_corrupt`, `check` and `lists_dir` have no effect.

    Args:
      values: the fields that are not `DataSection`'s, with `root`, the packed folder.
      sources: the openers of all data sets by name.

    Raises:
      UserError: there is no manifest, or a field has another value than what was packed.
    """
    top, manifest = _open_manifest(values.get("root", ""))
    source = manifest["source"]
    parameters = inspect.signature(sources.get(source, open_packed)).parameters
    dropped = (values.keys() & parameters.keys()) - {"root", "split"}
    differing = []
    for field in sorted(dropped - _OPENING):
        packed = manifest["fields"].get(field, parameters[field].default)
        if as_json(values[field]) != as_json(packed):
            differing.append((field, values[field], packed))
    if differing:
        told = "; ".join(
            f"data.{f} is {ours!r}, packed {theirs!r}" for f, ours, theirs in differing
        )
        back = " ".join(f"--config.data.{f}={_word(theirs)}" for f, _, theirs in differing)
        anew = " ".join(f"--set {f}={_word(ours)}" for f, ours, _ in differing)
        raise UserError(
            f"{top} was packed from {source} with other fields than the config's: {told}. Set "
            f"{back} to use what was packed, or pack {source} into another folder with {anew}"
        )
    return {field: value for field, value in values.items() if field not in dropped}


def as_json(value: Any) -> Any:
    """Returns a value as JSON gives it back: tuples and other sequences become lists."""
    return json.loads(json.dumps(value, default=list))


def _word(value: Any) -> str:
    """Returns a value as it is written on a command line."""
    return shlex.quote(str(tuple(value) if isinstance(value, list) else value))


def _open_manifest(root: str) -> tuple[str, dict[str, Any]]:
    """Returns the absolute path of `data.root` and the manifest in it."""
    if not root:
        raise UserError("data.root is empty; set it to the folder that `prepare pack` wrote")
    top = os.path.abspath(os.path.expanduser(root))
    return top, read_manifest(top)


def read_manifest(folder: str) -> dict[str, Any]:
    """Returns the manifest of a packed data set.

    Its keys: format and version; source (a key of SOURCES), fields (those that it was opened with,
    but for the root), channels, regions (whether there are region maps), decoded (whether images
    are kept as pixels), jaxseg (the version that packed), and splits: by name the count, classes,
    rule (how the list of images came about), skipped (names of images that could not be read and
    have others in their place), smallest and largest (sides of the images, height and width each by
    itself), and shards: file, records, bytes and sha256 of each.

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
