"""python -m jaxseg.predict --model=WORKDIR IMAGES... --out=DIR

Segments files and folders of images with a trained run. For each image DIR holds labels/NAME.png
(indexed), overlays/NAME.png and, written last, details/NAME.json: the classes, their areas, masks
and polygons. A GeoTIFF also gives geotiffs/NAME.tif, labels with its georeference. Given again, the
same command does what is not done yet.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxseg import compiled
from jaxseg import segmenter as segmenters
from jaxseg.commands.bar import Bar
from jaxseg.core import UserError
from jaxseg.data import geotiff
from jaxseg.data.disk import locked, new_file
from jaxseg.data.images import find_files, read_image
from jaxseg.outlines import polygons, run_lengths
from jaxseg.segmentation import Segmentation, save_picture

FOLDERS = {"labels": ".png", "overlays": ".png", "details": ".json", "geotiffs": ".tif"}


class Job(NamedTuple):
    """An image and what its files are called, without folder and suffix."""

    source: str
    name: str


class Predicted(NamedTuple):
    """What came of a command: how many images were done, and before; and why others were not."""

    done: int
    before: int
    failures: dict[str, str]


def main(argv: list[str]) -> None:
    """Runs the command line; exits with 1 and a list where some images could not be segmented."""
    # Intermixed: images may stand before and after the flags.
    arguments = _parser().parse_intermixed_args(argv)
    compiled.keep()
    try:
        predicted = predict(arguments)
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{predicted.done} images segmented, {predicted.before} before; in {arguments.out}")
    if predicted.failures:
        lines = [f"  {source}: {why}" for source, why in predicted.failures.items()]
        sys.exit(f"jaxseg: {len(lines)} images could not be segmented:\n" + "\n".join(lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxseg.predict", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("images", nargs="+", help="files, and folders with all images below them")
    add("--model", required=True, help="a run's work directory, or a bundle of it")
    add("--out", required=True, help="the folder for what comes of it")
    add("--entry", default="", help="the entry of evals that names the pixels; default: the first")
    add("--resize", type=int, help="side of an image before it is segmented; 0 = as it is; default:"
        " as the run's test images")  # fmt: skip
    add("--tile", type=int, default=0, help="side of the tiles of large images; default: 1024")
    add("--batch", type=int, default=4, help="images of one shape at once")
    add("--opacity", type=float, default=0.5, help="of the colours of overlays, 0 to 1")
    add("--smallest", type=float, default=16, help="square pixels below which no polygon is given")
    return parser


def predict(arguments: argparse.Namespace) -> Predicted:
    """Segments what is not done yet.

    Raises:
        UserError: there are no images; the model cannot be loaded; the folder cannot be written.
    """
    if not 0 <= arguments.opacity <= 1:
        raise UserError(f"--opacity is {arguments.opacity}; it lies in [0, 1].")
    out = pathlib.Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; give a folder.")
    segmenter = segmenters.load(
        arguments.model, arguments.entry, arguments.resize, arguments.tile, arguments.batch
    )
    identity = {
        "model": segmenter.trained.sha256,
        "resize": arguments.resize,
        "tile": arguments.tile,
        "opacity": arguments.opacity,
        "smallest": arguments.smallest,
    }
    with locked(out, "--out"):
        jobs = name_jobs(_sources(arguments.images, out), out)
        left = [job for job in jobs if not is_done(job, out, identity)]
        failures: dict[str, str] = {}
        with Bar("predict", len(jobs)) as bar:
            bar.start(len(jobs) - len(left))
            waiting: collections.deque[Job] = collections.deque()
            channels = segmenter.trained.data.channels
            # In order, so that the first that waits is the one that comes out.
            for found in segmenter.stream(_read(left, channels, waiting, failures, bar)):
                job = waiting.popleft()
                try:
                    write(found, job, out, identity)
                except OSError as error:
                    raise UserError(f"--out: cannot write to {out}: {error}.") from error
                bar.add()
    return Predicted(len(left) - len(failures), len(jobs) - len(left), failures)


def _read(
    jobs: Sequence[Job],
    channels: int,
    waiting: collections.deque[Job],
    failures: dict[str, str],
    bar: Bar,
) -> Iterator[np.ndarray]:
    """Yields the images that can be read, whose jobs begin to wait; notes why others cannot."""
    for job in jobs:
        try:
            image = read_image(job.source, channels)
        except UserError as error:
            failures[job.source] = str(error)
            bar.add()
            continue
        waiting.append(job)
        yield image


def _sources(given: Sequence[str], out: pathlib.Path) -> list[tuple[str, str]]:
    """Returns (path, path below the folder that was given) of each image, each path once."""
    found: dict[str, str] = {}
    leave = [str(out)] if out.is_dir() else []
    for place in given:
        path = os.path.realpath(os.path.expanduser(place))
        if os.path.isdir(path):
            for name in find_files(path, leave=leave):
                found.setdefault(os.path.join(path, name), name)
        else:
            found.setdefault(path, os.path.basename(path))
    if not found:
        raise UserError(f"There are no images in {', '.join(given)}; give files or other folders.")
    return list(found.items())


def name_jobs(sources: Sequence[tuple[str, str]], out: pathlib.Path) -> list[Job]:
    """Returns the jobs of sources (path, path below its folder), no two of one name.

    A name is the latter without suffix. Where another image has it, now or in what `out` holds of
    an earlier command, it gets eight digits of the path's hash.
    """
    jobs: list[Job] = []
    taken: set[str] = set()
    for path, below in sources:
        name = os.path.splitext(below)[0]
        stored = _details(out, name).get("source", path)
        if name in taken or stored != path:
            name += "-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
        taken.add(name)
        jobs.append(Job(path, name))
    return jobs


def _place(out: pathlib.Path, kind: str, name: str) -> pathlib.Path:
    return out / kind / (name + FOLDERS[kind])


def _details(out: pathlib.Path, name: str) -> dict[str, Any]:
    """Returns what the JSON of a name says; {} where there is none."""
    path = _place(out, "details", name)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _stamp(source: str) -> dict[str, int]:
    """Returns what tells that a file has changed."""
    status = os.stat(source)
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def is_done(job: Job, out: pathlib.Path, identity: dict[str, Any]) -> bool:
    """Says whether the very same was done of an image that has not changed since."""
    try:
        wanted = {"source": job.source, **identity, **_stamp(job.source)}
    except OSError:
        return False
    return wanted.items() <= _details(out, job.name).items()


def write(found: Segmentation, job: Job, out: pathlib.Path, identity: dict[str, Any]) -> None:
    """Writes what came of an image, the details last, for they say that it is done.

    Raises:
        UserError: a file cannot be written.
    """
    for kind in FOLDERS:
        if kind != "geotiffs":
            _place(out, kind, job.name).parent.mkdir(parents=True, exist_ok=True)
    found.save(_place(out, "labels", job.name))
    save_picture(
        Image.fromarray(found.overlay(identity["opacity"])),
        _place(out, "overlays", job.name),
        compress_level=2,  # photographs hardly become smaller by more effort
    )
    tags = geotiff.read_tags(job.source)
    if tags:
        path = _place(out, "geotiffs", job.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        geotiff.write_labels(path, found.narrow_labels, tags)
    facts = {
        "source": job.source,
        **_stamp(job.source),
        **identity,
        "height": found.size[0],
        "width": found.size[1],
        "georeferenced": bool(tags),
    }
    with new_file(_place(out, "details", job.name), 0, "--out") as file:
        # Row by row, for those of a large image take hundreds of megabytes.
        file.write(json.dumps(facts)[:-1].encode() + b', "classes": [')
        for number in range(len(found.names)):
            row = describe(found, number, identity["smallest"])
            text = json.dumps(row, default=np.ndarray.tolist)
            file.write((", " * bool(number) + text).encode())
        file.write(b"]}\n")


def describe(found: Segmentation, number: int, smallest: float) -> dict[str, Any]:
    """Returns the row of a cluster: its name, colour, pixels and share, mask and polygons."""
    pixels = int(found.pixels[number])
    mask = found.labels == number if pixels else None
    return {
        "id": number,
        "name": found.names[number],
        "colour": found.colours[number].tolist(),
        "pixels": pixels,
        "share": pixels / found.labels.size,
        "mask": None if mask is None else run_lengths(mask),
        "polygons": [] if mask is None else polygons(mask, smallest),
    }
