"""Checking a download: python -m jaxseg.prepare check NAME --root=DIR

Opening a split compares all headers with what the layout says; then examples are read, all or as
many as there is time for, in an order drawn at random, and their labels are looked at.
"""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from jaxseg.commands.bar import Bar
from jaxseg.core import UserError
from jaxseg.data.bsds500 import Bsds500
from jaxseg.data.catalogue import Entry
from jaxseg.data.folder import Folder
from jaxseg.data.images import find_files
from jaxseg.data.packed import Packed
from jaxseg.data.source import Example, Source, Wrapper

_SHOWN = 5  # problems of a kind that are told in full
_REDOWNLOAD = "Download these files again, or unpack the archive again"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the table; `wrong` says that the data set is not right, `remedy` what to do."""

    split: str
    subject: str
    found: str
    expected: str = ""
    wrong: bool = False
    remedy: str = ""


def check_split(
    split: str,
    open_split: Callable[..., Source],
    entry: Entry,
    seconds: float,
    on_corrupt: str = "error",
    absent: str = "",
) -> list[Finding]:
    """Checks one split; reading examples takes at most about `seconds`.

    Args:
        split: its name, for the table.
        open_split: opens it; takes on_corrupt="skip", where the source has that field.
        entry: what is known of the data set.
        on_corrupt: "error", or "skip" where examples with an unreadable file are not wrong, for
            others take their place.
        absent: places none of which is there, where this is no fault: the split is optional.
    """
    try:
        source = open_split()
    except UserError as error:
        if absent:
            return [Finding(split, "images", f"absent: no {absent} (optional)")]
        return [Finding(split, "layout", "not as expected", "", True, str(error))]
    found = [_count(split, len(source), entry.expected.get(split))]
    if folder := folder_of(source):
        found += list(_check_files(split, folder))
    if on_corrupt == "error":
        source = _strict(source)
    if isinstance(source, Packed):
        found += [_check_hashes(split, source), _stand_ins(split, source)]
    if len(source):
        sample = _Sample(source)
        sample.read(seconds, Bar(f"reading {split!r}", len(source)))
        found += list(sample.findings(split, split in entry.void))
    return found


def folder_of(source: Source) -> Folder | None:
    """Returns the files that a source reads, whatever wraps them; None where it has none."""
    if isinstance(source, Wrapper):
        return folder_of(source.source)
    if isinstance(source, Bsds500):
        return source.images
    return source if isinstance(source, Folder) else None


def _strict(source: Source) -> Source:
    """Returns the source without stand-ins: only so are damaged files met when they are read."""
    if isinstance(source, Wrapper):
        return dataclasses.replace(source, source=_strict(source.source))
    if isinstance(source, Bsds500):
        return dataclasses.replace(source, images=_without_standins(source.images))
    return _without_standins(source) if isinstance(source, Folder) else source


def _without_standins(folder: Folder) -> Folder:
    return dataclasses.replace(folder, on_corrupt="error", bad=frozenset())


def _count(split: str, count: int, official: int | None) -> Finding:
    if official is None:
        return Finding(split, "images", str(count), "(no official count)", count == 0)
    remedy = ""
    if count < official:
        remedy = (
            f"The official set has {official} images, here are {count}: unpack the archives that "
            "are missing, or go on with what is there and say so beside the scores"
        )
    elif count > official:
        remedy = (
            f"The official set has {official} images, here are {count}: remove what does not "
            "belong to this split"
        )
    return Finding(split, "images", str(count), str(official), count != official, remedy)


def _check_files(split: str, source: Folder) -> Iterator[Finding]:
    """Looks at the files of a source that has one or two an image."""
    reasons = [_failure(source, index) for index in sorted(source.bad)[:_SHOWN]]
    yield Finding(
        split, "unreadable files", str(len(source.bad)), "0", bool(source.bad),
        _listing(reasons, len(source.bad)) + f". {_REDOWNLOAD}" if source.bad else "",
    )  # fmt: skip
    if not source.labels:
        return
    bare = [name for name, label in zip(source.names, source.labels, strict=True) if not label]
    # Where labels are needed, the source could not even be opened without them.
    yield Finding(split, "images without label", str(len(bare)))
    orphans = _labels_without_image(source)
    yield Finding(
        split, "labels without image", str(len(orphans)), "0", bool(orphans),
        f"{_listing(orphans, len(orphans))}. Unpack their images, or remove these labels"
        if orphans else "",
    )  # fmt: skip


def _failure(source: Folder, index: int) -> str:
    """Returns what reading an example without a stand-in says."""
    try:
        _without_standins(source)[index]
    except UserError as error:
        return str(error).removesuffix(" to use the next image in its place")
    return f"{source.names[index]}: its header is damaged"


def _labels_without_image(source: Folder) -> list[str]:
    """Returns label files, in the folders of this split's labels, whose image is nowhere."""
    images = [os.path.join(source.root, name) for name in source.names]
    image_end = _ending(map(_stem, images))
    stems = {_stem(path).removesuffix(image_end) for path in images}
    for folder in {os.path.dirname(path) for path in images}:
        stems |= {_stem(name).removesuffix(image_end) for name in find_files(folder)}
    known = {os.path.basename(stem) for stem in stems}
    # One split may have labels of two kinds, as VOC's PNGs and the .mat files of SBD.
    kinds: dict[str, set[str]] = {}
    for label in filter(None, source.labels):
        kinds.setdefault(os.path.splitext(label)[1], set()).add(label)
    return sorted(path for labels in kinds.values() for path in _orphans(labels, known))


def _orphans(labels: set[str], known: set[str]) -> Iterator[str]:
    """Yields the files that lie and end as these labels do and belong to no known image."""
    end = _ending(labels)
    for folder in {os.path.dirname(path) for path in labels}:
        for entry in os.scandir(folder):
            is_label = entry.name.endswith(end) and entry.path not in labels
            if is_label and entry.name.removesuffix(end) not in known:
                yield entry.path


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _ending(names: Iterable[str]) -> str:
    """Returns what all names end in, from its first mark on: "_gtFine_labelIds.png", ".png"."""
    backwards = zip(*(os.path.basename(name)[::-1] for name in names), strict=False)
    shared = "".join(c[0] for c in itertools.takewhile(lambda c: len(set(c)) == 1, backwards))[::-1]
    mark = re.search(r"[^A-Za-z0-9].*", shared)
    return mark[0] if mark else ""


def _check_hashes(split: str, source: Packed) -> Finding:
    """Compares every byte of the shards with what the manifest says of them."""
    wrong = []
    for shard in source.shards:
        with open(os.path.join(source.root, shard.file), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                wrong.append(shard.file)
    remedy = f"{_listing(wrong, len(wrong))}. Copy these shards again, or pack again"
    return Finding(split, "shards changed", str(len(wrong)), "0", bool(wrong), remedy)


def _stand_ins(split: str, source: Packed) -> Finding:
    """Counts the images that could not be read when the split was packed."""
    skipped = list(source.skipped)
    return Finding(
        split, "unreadable files", str(len(skipped)), "0", bool(skipped),
        f"{_listing(skipped, len(skipped))} could not be read, and others were packed in their "
        "place. Mend these files, and pack into another folder",
    )  # fmt: skip


class _Sample:
    """Reads examples of a source, and counts what they hold."""

    def __init__(self, source: Source):
        self._source = source
        self._lock = threading.Lock()
        self._read = 0
        self._failures: list[str] = []
        self._failed = 0
        # Pixels by label value, from -1 on. Kinds without names, such as instances, have any value.
        self._counts = {
            kind: np.zeros(max(len(names), 1) + 1, np.int64)
            for kind, names in source.classes.items()
        }
        self._sides: list[tuple[int, int]] = []

    def read(self, seconds: float, bar: Bar) -> None:
        """Reads examples in random order, in as many threads as there are processors."""
        order = iter(np.random.default_rng(0).permutation(len(self._source)).tolist())
        deadline = time.monotonic() + seconds

        def work() -> None:
            while time.monotonic() < deadline:
                with self._lock:
                    index = next(order, None)
                if index is None:
                    return
                self._look_at(index)
                bar.add()

        threads = os.cpu_count() or 1
        with bar, concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for one in [pool.submit(work) for _ in range(threads)]:
                one.result()

    def _look_at(self, index: int) -> None:
        try:
            example = self._source[index]
            counts = {kind: self._count(example, kind) for kind in self._counts}
            if isinstance(self._source, Bsds500):
                self._source.segmentations(index)
        except UserError as error:
            with self._lock:
                self._read += 1
                self._failed += 1
                if len(self._failures) < _SHOWN:
                    self._failures.append(str(error))
            return
        with self._lock:
            self._read += 1
            self._sides.append(example.image.shape[:2])
            for kind, count in counts.items():
                self._counts[kind] += count

    def _count(self, example: Example, kind: str) -> np.ndarray:
        """Returns pixels by label value; raises UserError for one that cannot be."""
        label = example.label[kind]
        if not self._source.classes[kind]:
            label = np.minimum(label, 0)
        classes = max(len(self._source.classes[kind]), 1)
        if label.shape != example.image.shape[:2]:
            raise UserError(
                f"{example.name}: label {kind!r} is {label.shape[0]} x {label.shape[1]}, the image "
                f"{example.image.shape[0]} x {example.image.shape[1]}"
            )
        if label.min() < -1 or label.max() >= classes:
            raise UserError(
                f"{example.name}: label {kind!r} holds values from {label.min()} to {label.max()}; "
                f"expected -1 to {classes - 1}"
            )
        return np.bincount((label + 1).ravel(), minlength=classes + 1)

    def findings(self, split: str, is_void: bool) -> Iterator[Finding]:
        """Says what was read; `is_void` says that no pixel need have a label."""
        total = len(self._source)
        all_read = self._read == total
        part = "all read" if all_read else f"a random {self._read} of {total} read"
        yield Finding(
            split, "damaged or wrong examples", f"{self._failed} ({part})", "0", self._failed > 0,
            _listing(self._failures, self._failed, "\n    "),
        )  # fmt: skip
        if self._sides:
            heights, widths = zip(*self._sides, strict=True)
            found = f"height {min(heights)} to {max(heights)}, width {min(widths)} to {max(widths)}"
            yield Finding(split, "sizes", found)
        for kind, counts in self._counts.items():
            names = self._source.classes[kind]
            unseen = [name for name, count in zip(names, counts[1:], strict=False) if not count]
            share = 100 * counts[1:].sum() / max(counts.sum(), 1)
            wrong = counts[1:].sum() == 0 < self._read and not is_void
            found = f"{share:.1f} % of pixels, {len(names) - len(unseen)} of {len(names)} classes"
            if unseen:
                found += f"; not seen: {_listing(unseen, len(unseen))}"
            yield Finding(
                split, f"labelled, {kind}", found, "", wrong,
                "No pixel has a label: the labels are another release's, or of a held-out test set",
            )  # fmt: skip


def _listing(items: list[str], total: int, separator: str = "; ") -> str:
    more = f"{separator}and {total - _SHOWN} more" if total > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more


def format_findings(findings: Iterable[Finding]) -> str:
    """Returns the table of findings, and below it what to do about those that are wrong."""
    rows = [("split", "what", "found", "expected", "")]
    todo = []
    for finding in findings:
        split = finding.split or "(all)"
        mark = "WRONG" if finding.wrong else "ok" if finding.expected else ""
        rows.append((split, finding.subject, finding.found, finding.expected, mark))
        if finding.wrong and finding.remedy:
            todo.append(f"- {split}, {finding.subject}: {finding.remedy}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join(lines + (["", *todo] if todo else []))


def check(
    splits: Mapping[str, Callable[..., Source]],
    entry: Entry,
    seconds: float,
    absent: Mapping[str, str],
) -> list[Finding]:
    """Checks splits, each opened by a function, in about `seconds` of reading in all.

    `absent` has the optional splits that are not there, as `check_split` takes it.
    """
    findings = []
    end = time.monotonic() + seconds
    for number, (split, open_split) in enumerate(splits.items()):
        share = max(end - time.monotonic(), 1.0) / (len(splits) - number)
        findings += check_split(split, open_split, entry, share, absent=absent.get(split, ""))
    return findings
