"""Coherent-region maps of a folder of images: python -m jaxseg.prepare regions --images --out

Maps are written whole or not at all, and their settings beside them. So a killed command goes on
where it was, and a folder never holds maps of two kinds.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import jaxseg
from jaxseg.boundaries.coherent import PRESETS
from jaxseg.boundaries.detectors import DEFAULT, DETECTORS
from jaxseg.commands import region_pool
from jaxseg.commands.bar import Bar
from jaxseg.commands.region_map import Outcome, Settings, count_regions
from jaxseg.core import UserError
from jaxseg.data.disk import locked
from jaxseg.data.folder import LABEL_ENDING
from jaxseg.data.images import find_files
from jaxseg.report.regions import write_report
from jaxseg.sections import pick
from jaxseg.writer import write_atomic

SETTINGS = "regions.json"
REPORT = "regions_report"
_SIDE = 2048
_SHOWN = 20  # failures that are printed; all are in the report


def run_regions(arguments: argparse.Namespace) -> int:
    """Makes the maps that are missing; returns 0 only where every image has one."""
    settings = _settings(arguments)
    with locked(pathlib.Path(settings.out), "--out") as alone:
        try:
            counts, failures = _run(settings, arguments, alone)
        except OSError as error:
            raise UserError(
                f"--out: cannot write below {settings.out}: {error}. Mend that and give the same "
                "command again; the maps that are made are kept"
            ) from error
    _tell(pathlib.Path(settings.out), counts, failures)
    return int(bool(failures))


def _run(
    settings: Settings, arguments: argparse.Namespace, alone: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """Makes the maps and their page; returns regions by image, and the failures: why, by name."""
    names = _images(settings)
    _open_folder(settings, names, arguments.overwrite, alone)
    before = _counts(settings, names)
    missing = [name for name in names if name not in before]
    print(f"{len(names):,} images, {len(before):,} of them done before; {_told(settings)}")
    work = _on_beam if arguments.runner else _on_this_machine
    failures = work(settings, missing, arguments) if missing else {}
    counts = _counts(settings, names)
    for name in names:
        if name not in counts:
            failures.setdefault(name, "no map came of it, and no reason was given")
    facts = {"images": settings.images} | settings.identity()
    folder = pathlib.Path(settings.out, REPORT)
    write_report(folder, facts, counts, failures, settings.read, arguments.samples)
    return counts, failures


def _counts(settings: Settings, names: Sequence[str]) -> dict[str, int]:
    """Returns how many regions the images have, of which there is a map."""
    return {name: count for name in names if (count := count_regions(settings.map(name)))}


def _on_this_machine(
    settings: Settings, names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, str]:
    """Makes maps by a pool of processes; returns the failures: why, by name."""
    failures: dict[str, str] = {}
    settings.detector()  # tells what is wrong with it before there are processes
    with Bar("regions", len(names)) as bar:

        def done(outcome: Outcome) -> None:
            bar.add()
            if outcome.failure:
                failures[outcome.name] = outcome.failure

        region_pool.make_maps(settings, names, min(arguments.processes, len(names)), done)
    return failures


def _on_beam(
    settings: Settings, names: Sequence[str], arguments: argparse.Namespace
) -> dict[str, str]:
    """Makes maps by a Beam pipeline; returns the failures: why, by name."""
    try:
        from jaxseg.commands import region_beam
    except ImportError as error:
        raise UserError(
            f"--runner={arguments.runner} needs Apache Beam: pip install 'jaxseg[beam]' ({error})"
        ) from error
    settings.detector()
    path = pathlib.Path(settings.out, REPORT, "failures.json")
    path.parent.mkdir(exist_ok=True)
    options = [f"--runner={arguments.runner}", *shlex.split(arguments.runner_options)]
    return dict(region_beam.make_maps(settings, names, path, options))


def _settings(arguments: argparse.Namespace) -> Settings:
    """Returns the settings that the flags ask for; checks their values."""
    images, out = (
        os.path.realpath(os.path.expanduser(x)) for x in (arguments.images, arguments.out)
    )
    if not os.path.isdir(images):
        raise UserError(f"--images: there is no folder {images}. Check the path")
    if os.path.commonpath([images, out]) == out:
        raise UserError(
            f"--out: {out} is or holds the folder of images, {images}, so that maps could take the "
            "place of images. Give another folder"
        )
    pick("--edges", arguments.edges, DETECTORS)
    cut = pick("--preset", arguments.preset or arguments.edges, PRESETS)
    given = {name: getattr(arguments, name) for name in ("start", "step", "limit", "fixed")}
    cut = dataclasses.replace(cut, **{k: v for k, v in given.items() if v is not None})
    for name in ("side", "processes", "samples"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; it must be at least 1")
    model = os.path.realpath(os.path.expanduser(arguments.model)) if arguments.model else ""
    settings = Settings(images, out, arguments.edges, model, cut, arguments.side)
    if model and not os.path.isfile(model):
        settings.detector()  # says what file is wanted
    return settings


def _images(settings: Settings) -> list[str]:
    """Returns the images of the folder; labels beside them, as `folder` has them, are none.

    Raises UserError if there are no images, or maps would clash.
    """
    inside = [settings.out] if os.path.isdir(settings.out) else []
    found = find_files(settings.images, leave=inside)
    names = [name for name in found if not name.lower().endswith(LABEL_ENDING)]
    if not names:
        raise UserError(f"--images: there is no image below {settings.images}. Check the path")
    maps = collections.Counter(settings.map(name) for name in names)
    clash = next((name for name in names if maps[settings.map(name)] > 1), None)
    if clash:
        raise UserError(
            f"--images: several images would have the one map {settings.map(clash)}, such as "
            f"{clash}: they differ in the suffix alone. Rename or move one of them"
        )
    return names


def _open_folder(settings: Settings, names: Sequence[str], overwrite: bool, alone: bool) -> None:
    """Sees to it that what is in the folder was made with the same settings, or is gone.

    Where no other process can be at work there (`alone`), it removes what a kill left half written.
    Raises UserError where it was made with others and `overwrite` is not set.
    """
    path = pathlib.Path(settings.out, SETTINGS)
    ours = settings.identity()
    if overwrite:
        for name in names:
            settings.map(name).unlink(missing_ok=True)
    elif path.exists():
        _require_same(path, ours)
    elif found := next((n for n in names if settings.map(n).exists()), None):
        raise UserError(
            f"--out: {settings.map(found)} is there, but no {SETTINGS} that says how it was made. "
            "Give another --out, or --overwrite"
        )
    for left in pathlib.Path(settings.out).rglob("*.png.*.tmp") if alone else ():
        left.unlink()
    write_atomic(path, json.dumps(ours | {"jaxseg": jaxseg.__version__}, indent=2) + "\n")


def _require_same(path: pathlib.Path, ours: dict[str, Any]) -> None:
    try:
        theirs = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"--out: {path} is damaged ({error}). Give another --out, or --overwrite"
        ) from error
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise UserError(
                f"--out: the maps in {path.parent} were made with {key} {theirs.get(key)!r}; here "
                f"it is {value!r}. Give another --out, or --overwrite to make them all again"
            )


def _told(settings: Settings) -> str:
    cut = settings.cut
    rule = f"cut at {cut.start:g}"
    if not cut.fixed:
        rule += f", raised by {cut.step:g} to at most {cut.limit} regions"
    return f"{settings.edges} edges, {rule}"


def _tell(out: pathlib.Path, counts: dict[str, int], failures: dict[str, str]) -> None:
    """Prints the histogram of region counts, the failures, and where to look."""
    values = sorted(counts.values())
    if values:
        print(f"regions an image: {values[0]} to {values[-1]}, median {values[len(values) // 2]}")
        for low, high, count in histogram(values):
            bar = "#" * round(50 * count / len(values))
            print(f"  {low:>5} - {high:>5}  {count:>8,}  {bar}")
    for name in list(failures)[:_SHOWN]:
        print(f"FAILED {name}: {failures[name]}", file=sys.stderr)
    if len(failures) > _SHOWN:
        print(f"... and {len(failures) - _SHOWN:,} more", file=sys.stderr)
    if failures:
        print(
            f"{len(failures):,} images have no map; all are listed in {out / REPORT}. Mend or "
            "remove them and give the same command again",
            file=sys.stderr,
        )
    print(f"{len(counts):,} maps in {out}; see {out / REPORT / 'index.html'}")


def histogram(values: Sequence[int], bins: int = 12) -> list[tuple[int, int, int]]:
    """Returns (lowest, highest, how many) of at most `bins` equal ranges of whole numbers."""
    first, last = min(values), max(values)
    width = (last - first) // bins + 1
    counts = collections.Counter((value - first) // width for value in values)
    return [
        (first + n * width, first + (n + 1) * width - 1, counts[n])
        for n in range((last - first) // width + 1)
    ]


def add_parser(commands: Any) -> None:
    """Adds the subcommand `regions`."""
    parser = commands.add_parser("regions", help="coherent-region maps of a folder of images")
    add = parser.add_argument
    parser.set_defaults(run=run_regions)
    add("--images", required=True, help="folder of images")
    add("--out", required=True, help="folder of the maps, which mirrors it")
    add("--edges", default=DEFAULT, help=f"{', '.join(DETECTORS)} (%(default)s)")
    add("--model", default="", help="the detector's file, where it needs one")
    add("--preset", default="", help=f"{', '.join(PRESETS)} (that of --edges)")
    add("--start", type=float, help="the first threshold (the preset's)")
    add("--step", type=float, help="by which it rises (the preset's)")
    add("--limit", type=int, help="most regions of an image (the preset's)")
    add("--fixed", action="store_true", default=None,
        help="keep the first threshold, however many regions there are")  # fmt: skip
    add("--side", type=int, default=_SIDE,
        help="larger images are segmented at this longer side (%(default)s)")  # fmt: skip
    add("--processes", type=int, default=os.cpu_count() or 1, help="(%(default)s)")
    add("--samples", type=int, default=24, help="images on the contact sheet (%(default)s)")
    add("--overwrite", action="store_true", help="make all maps again")
    add("--runner", default="", help="a runner of Apache Beam, in the place of processes")
    add("--runner-options", default="", help="its options: '--project=... --region=...'")
