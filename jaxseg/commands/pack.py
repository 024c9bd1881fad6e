"""Packing a data set into shards: python -m jaxseg.prepare pack NAME --root=DIR --out=DIR

A split's shards are written in parallel, each under a temporary name until it is whole, with a note
of it below OUT/.partial. The manifest lists a split only when all its shards are there. So a killed
pack goes on with the shards that are missing, and no reader ever sees half a split.
"""

import concurrent.futures
import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter

import jaxseg
from jaxseg.commands.bar import Bar
from jaxseg.core import UserError
from jaxseg.data.folder import few
from jaxseg.data.packed import FORMAT, MANIFEST, Shard, as_json, check_sizes, read_manifest
from jaxseg.data.records import encode_example
from jaxseg.data.source import Source
from jaxseg.data.with_regions import add_regions
from jaxseg.writer import write_atomic

SHARD_BYTES = 256 * 2**20  # about; large files read fast, and many of them pack in parallel

# Examples are compressed already; groups of one make random access cheap.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_SAMPLE = 16  # examples that are encoded to estimate the size of all
_MARGIN = 1.1  # what must be free, relative to the estimate
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Packer:
    """Packs splits of one data set into a folder.

    Attributes:
        out: the folder; made where it is not there.
        source: a key of SOURCES; fields: what it is opened with, but for the root.
        channels: of the images.
        shard_bytes: about how large a shard becomes.
        threads: shards written at a time; each holds one example in memory.
        rule: how the lists of images came about, where the source itself does not say.
        decoded: keep the images as pixels, which read at once and take many times the room.
    """

    out: pathlib.Path
    source: str
    fields: Mapping[str, Any]
    channels: int = 3
    shard_bytes: int = SHARD_BYTES
    threads: int = os.cpu_count() or 1
    rule: str = ""
    decoded: bool = False

    def pack(self, splits: Mapping[str, Source], regions: str = "") -> dict[str, Any]:
        """Packs the splits that are not packed yet; returns the manifest.

        With `regions`, a folder as in `add_regions`, every example gets its region map.

        Raises:
            UserError: the folder holds another data set, packed or half packed; another process
                packs into it; there is too little room; a file cannot be read or written.
        """
        with _writing(self.out), _locked(self.out):
            manifest = self._manifest(regions)
            for split, source in splits.items():
                if split in manifest["splits"]:
                    entry = manifest["splits"][split]
                    check_sizes(str(self.out), tuple(Shard(**s) for s in entry["shards"]))
                    print(f"{self.source} {split!r}: packed already, {entry['count']} images")
                    continue
                source = add_regions(source, regions) if regions else source
                manifest["splits"][split] = self._pack_split(split, source, regions)
                write_atomic(self.out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
                shutil.rmtree(self._partial(split))
                with contextlib.suppress(OSError):  # other splits may be half packed
                    self._partial(split).parent.rmdir()
            return manifest

    def _partial(self, split: str) -> pathlib.Path:
        """Returns the folder of the plan and the notes of a split, whose name its shards bear."""
        # Quoted, no two splits have one name; and no quoted name is "%all".
        return self.out / ".partial" / (urllib.parse.quote(split, safe="") or "%all")

    def _identity(self, regions: str) -> dict[str, Any]:
        """Returns what all splits of a folder have in common, as JSON gives it back."""
        fields = as_json(dict(self.fields))
        return {"source": self.source, "fields": fields, "channels": self.channels,
                "regions": bool(regions), "decoded": self.decoded}  # fmt: skip

    def _manifest(self, regions: str) -> dict[str, Any]:
        """Returns the manifest to go on with: the one that is there, or an empty one."""
        ours = self._identity(regions)
        if not (self.out / MANIFEST).exists():
            return FORMAT | ours | {"jaxseg": jaxseg.__version__, "splits": {}}
        manifest = read_manifest(str(self.out))
        self._require_same(ours, {key: manifest.get(key) for key in ours})
        return manifest

    def _require_same(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for key, value in ours.items():
            if theirs[key] != value:
                raise UserError(
                    f"--out: {self.out} holds another pack, whose {key} is {_short(theirs[key])}; "
                    f"here it is {_short(value)}. Give another --out, or delete that folder"
                )

    def _record(self, source: Source, index: int) -> "_Record":
        example = source[index]
        kept = None if self.decoded else stored(source, index)
        names = getattr(source, "names", ())
        return _Record(
            data=encode_example(example, kept, self.channels, self.decoded),
            sides=(example.image.shape[0], example.image.shape[1]),
            # An image that cannot be read has another in its place, which gives its own name.
            skipped=names[index] if names and names[index] != example.name else None,
        )

    def _pack_split(self, split: str, source: Source, regions: str) -> dict[str, Any]:
        """Writes the shards of a split that are missing; returns its entry of the manifest."""
        if not len(source):
            raise UserError(f"{self.source} {split!r} is empty; there is nothing to pack")
        partial = self._partial(split)
        partial.mkdir(parents=True, exist_ok=True)
        bounds = self._plan(split, source, regions, partial / "plan.json")
        jobs = [
            _Job(self.out / f"{partial.name}-{n:05d}-of-{len(bounds) - 1:05d}.arrayrecord",
                 partial / f"{n:05d}.json", range(*bound))
            for n, bound in enumerate(itertools.pairwise(bounds))
        ]  # fmt: skip
        notes = self._run(jobs, source, Bar(f"{self.source} {split!r}", len(source)))
        skipped = [name for note in notes for name in note["skipped"]]
        if skipped:
            # Names that are not UTF-8 hold lone surrogates, which cannot be printed.
            named = few(skipped).encode("utf-8", "backslashreplace").decode()
            print(
                f"{self.source} {split!r}: {len(skipped)} of {len(source)} images cannot be read, "
                f"and have others in their place: {named}"
            )
        return {
            "count": len(source),
            "classes": source.classes,
            "rule": getattr(source, "rule", "") or self.rule,
            "skipped": skipped,
            "smallest": [min(side) for side in zip(*(n["smallest"] for n in notes), strict=True)],
            "largest": [max(side) for side in zip(*(n["largest"] for n in notes), strict=True)],
            "shards": [n["shard"] for n in notes],
        }

    def _run(self, jobs: list["_Job"], source: Source, bar: Bar) -> list[dict[str, Any]]:
        """Does all jobs; returns their notes in order. The first that fails stops the others."""
        bar.start(sum(len(job.indices) for job in jobs if job.is_done()))
        stop, record = threading.Event(), functools.partial(self._record, source)
        with bar, concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            work = [pool.submit(job.run, record, bar, stop) for job in jobs]
            try:
                for one in concurrent.futures.as_completed(work):
                    one.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            return [one.result() for one in work]

    def _plan(self, split: str, source: Source, regions: str, path: pathlib.Path) -> list[int]:
        """Returns where shards begin and, last, end; checks that the disk has room for them.

        A pack that goes on takes the plan it began with.
        """
        names = "\n".join(getattr(source, "names", ())).encode("utf-8", "surrogateescape")
        ours = self._identity(regions) | {
            "count": len(source),
            "classes": as_json(source.classes),
            "names": hashlib.sha256(names).hexdigest(),
        }
        if path.exists():
            plan = json.loads(path.read_text())
            self._require_same(ours, plan["of"])
        else:
            indices = sorted({n * (len(source) - 1) // _SAMPLE for n in range(_SAMPLE + 1)})
            sizes = [len(self._record(source, index).data) for index in indices]
            total = math.ceil(sum(sizes) / len(sizes) * len(source))
            count = min(len(source), math.ceil(total / self.shard_bytes))
            bounds = [n * len(source) // count for n in range(count + 1)]
            plan = {"of": ours, "bytes": total, "bounds": bounds}
        self._require_room(split, plan, path.parent)
        write_atomic(path, json.dumps(plan))
        return plan["bounds"]

    def _require_room(self, split: str, plan: dict[str, Any], partial: pathlib.Path) -> None:
        """Says what the split takes; raises UserError where the disk has less room than that."""
        count = len(plan["bounds"]) - 1
        done = len(list(partial.glob("[0-9]*.json"))) / count
        needed, free = plan["bytes"] * (1 - done) * _MARGIN, shutil.disk_usage(self.out).free
        told = (
            f"{self.source} {split!r}: {plan['of']['count']} images in {count} shard(s), about "
            f"{_size(needed)} to write; {_size(free)} free in {self.out}"
        )
        if needed > free:
            raise UserError(f"{told}. Make room there, or give another --out")
        print(told, flush=True)


@dataclasses.dataclass(frozen=True)
class _Record:
    """An example as bytes, and what the manifest says of it."""

    data: bytes
    sides: tuple[int, int]  # height and width
    skipped: str | None  # name of the image in whose place it is; None = it is the image itself


Encode = Callable[[int], _Record]


class _Stopped(Exception):
    """Another shard failed, so that this one need not be finished."""


@dataclasses.dataclass(frozen=True)
class _Job:
    """One shard to write: its file, the note that says that it is whole, and its examples."""

    path: pathlib.Path
    note: pathlib.Path
    indices: range

    def is_done(self) -> bool:
        """Tells whether the shard and its note are there; a note without a shard does not count."""
        try:
            return json.loads(self.note.read_text())["shard"]["bytes"] == self.path.stat().st_size
        except FileNotFoundError:
            return False

    def run(self, encode: Encode, bar: Bar, stop: threading.Event) -> dict[str, Any]:
        """Writes the shard, unless it is done; returns its note."""
        if self.is_done():
            return json.loads(self.note.read_text())
        temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            written = self._write(temporary, encode, bar, stop)
            with open(temporary, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(self.path)
        shard = Shard(self.path.name, len(self.indices), self.path.stat().st_size, digest)
        note = {"shard": dataclasses.asdict(shard)} | written
        write_atomic(self.note, json.dumps(note))
        return note

    def _write(
        self, path: pathlib.Path, encode: Encode, bar: Bar, stop: threading.Event
    ) -> dict[str, Any]:
        """Writes the records; returns the sides of their images, and which are skipped."""
        sizes, skipped = set(), []
        with _writes():
            writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        try:
            for index in self.indices:
                if stop.is_set():
                    raise _Stopped
                record = encode(index)
                with _writes():
                    writer.write(record.data)
                sizes.add(record.sides)
                if record.skipped is not None:
                    skipped.append(record.skipped)
                bar.add()
        finally:
            with _writes():
                writer.close()
        return {
            "smallest": [min(side) for side in zip(*sizes, strict=True)],
            "largest": [max(side) for side in zip(*sizes, strict=True)],
            "skipped": skipped,
        }


def stored(source: Source, index: int) -> bytes | None:
    """Returns the image file of an example, where the source keeps one."""
    keeps = getattr(source, "stored", None)
    return keeps(index) if keeps else None


@contextlib.contextmanager
def _writes() -> Iterator[None]:
    """ArrayRecord raises RuntimeError for what the system refuses; makes it an OSError."""
    try:
        yield
    except RuntimeError as error:
        full = any(os.strerror(n) in str(error) for n in (errno.ENOSPC, errno.EDQUOT))
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


@contextlib.contextmanager
def _writing(out: pathlib.Path) -> Iterator[None]:
    """Makes the folder; turns what the system refuses inside into a UserError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"--out: no room is left in {out}. The shards that are whole are kept: make room, "
                "and give the same command again to go on"
            ) from error
        raise UserError(
            f"--out: cannot write to {out}: {error.strerror or error}. Mend that, or give another "
            "folder; the shards that are whole are kept"
        ) from error


@contextlib.contextmanager
def _locked(out: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from packing into the folder; a killed one's lock is gone with it."""
    with open(out / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--out: another process is packing into {out}; wait for it, or stop it"
            ) from error
        yield


def _size(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:200]}..."
