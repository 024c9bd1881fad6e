"""BSDS500's measures of an edge detector and of the hierarchies made from its edges.

python benchmarks/boundaries.py score --root=DIR --edges=NAME --hierarchy --out=FILE.json

DIR is the folder data of BSR/BSDS500, NAME a key of jaxseg.boundaries.detectors.DETECTORS, --model
the file that such a detector reads, if it does. It measures:

    edges       boundary F of the edges after non-maximum suppression
    hierarchy   boundary F of their ultrametric contour maps (--hierarchy)
    regions     covering, probabilistic Rand index and variation of information of those

Boundaries are matched at --thresholds=20 thresholds, where the published figures have 99; best
thresholds are interpolated, as in the original benchmark. Where strengths crowd near 0, 20 are few
and the scores come out lower (--thresholds=99 tells). Regions are compared at
--region-thresholds=99, as the published figures are. --limit=N takes N images spread evenly over
the split.

What was counted in each image is kept in FILE.images, so that a run that was stopped goes on;
delete that folder when the detector has changed. One process a core (--processes), one thread each.
Seconds are medians over images, of wall time and of processor time, which other programs on the
machine hardly change. The JSON holds settings, scores, curves over thresholds, seconds and the
published figures; a table goes to standard output.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxseg.boundaries.detectors import DETECTORS, Detect
from jaxseg.boundaries.edges import Edges, suppressed
from jaxseg.boundaries.pmi import PmiSettings, pmi_edges
from jaxseg.boundaries.ucm import make_hierarchy
from jaxseg.commands.bar import Bar
from jaxseg.commands.region_pool import WORKER_ENVIRONMENT
from jaxseg.core import UserError
from jaxseg.data.bsds500 import open_bsds500
from jaxseg.evaluation.boundaries import BoundaryScores, contours, even_thresholds
from jaxseg.evaluation.segmentations import Agreement, SegmentationScores
from jaxseg.writer import write_atomic

# On the 200 test images: Dollar & Zitnick 2015; Arbelaez et al. 2011.
PUBLISHED = {
    "structured forests": {"edges": {"ods": 0.746}},
    "gPb-OWT-UCM": {
        "hierarchy": {"ods": 0.73, "ois": 0.76},
        "regions": {
            "covering_ods": 0.59, "covering_ois": 0.65, "covering_best": 0.74,
            "rand_ods": 0.83, "rand_ois": 0.86, "voi_ods": 1.69, "voi_ois": 1.48,
        },
    },
}  # fmt: skip
# Of PMI's strengths before scaling; those of the images of BSDS500 that were looked at are less.
PMI_LARGEST = 110.0
COLUMNS = {
    "edges": ("ods", "ois", "ap"),
    "hierarchy": ("ods", "ois", "ap"),
    "regions": tuple(PUBLISHED["gPb-OWT-UCM"]["regions"]),
}


class System(NamedTuple):
    """What is measured: a function from image to edges, and two from edges to what is scored."""

    detect: Detect
    ridges: Callable[[Edges], np.ndarray]  # f32[H W]
    ucm2: Callable[[Edges], np.ndarray]  # f32[2H+1 2W+1]


def make_system(name: str, model: str) -> System:
    """Returns what is measured of a detector; UserError where there is none of that name."""
    return System(
        _detector(name, model), suppressed, lambda found: make_hierarchy(found).doubled_map
    )


def _detector(name: str, model: str) -> Detect:
    if name not in DETECTORS:
        raise UserError(f"--edges is {name!r}; it is one of {', '.join(DETECTORS)}")
    if name == "pmi":
        # One threshold is to mean the same for all images, as in the release's evaluation; and
        # boundaries are matched at the image's size.
        return functools.partial(pmi_edges, settings=PmiSettings(largest=PMI_LARGEST))
    return DETECTORS[name](model)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the counts of an image depend on, besides the code."""

    split: str
    edges: str
    model: str
    hierarchy: bool
    thresholds: int
    region_thresholds: int

    def records(self) -> dict[str, BoundaryScores | SegmentationScores]:
        """Returns the empty records of what is measured."""
        boundaries = BoundaryScores(even_thresholds(self.thresholds))
        if not self.hierarchy:
            return {"edges": boundaries}
        regions = SegmentationScores(even_thresholds(self.region_thresholds))
        return {"edges": boundaries, "hierarchy": boundaries, "regions": regions}


@contextlib.contextmanager
def timed(seconds: dict[str, tuple[float, float]], name: str) -> Iterator[None]:
    """Writes down how long the body takes, by the wall clock and in processor time."""
    began = time.perf_counter(), time.process_time()
    yield
    seconds[name] = time.perf_counter() - began[0], time.process_time() - began[1]


def count(
    system: System, settings: Settings, image: np.ndarray, truths: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Returns what is kept of an image u8[H W 3] with segmentations i32[H W]: its counts, seconds.

    It can be written as JSON. The counts are those of the records of `Settings`, by their names.
    """
    records, seconds = settings.records(), {}
    with timed(seconds, "edges"):
        edges = system.detect(image)
    inputs = {"edges": system.ridges(edges)}
    if settings.hierarchy:
        with timed(seconds, "hierarchy"):
            ucm2 = system.ucm2(edges)
        inputs |= {"hierarchy": contours(ucm2), "regions": ucm2}
    kept: dict[str, Any] = {"seconds": seconds}
    for name, value in inputs.items():
        with timed(seconds, f"score_{name}"):
            found = records[name].update(value, truths).images[0]
        if isinstance(found, Agreement):
            kept[name] = {key: np.asarray(part).tolist() for key, part in found._asdict().items()}
        else:
            kept[name] = found.tolist()
    return kept


def collect(settings: Settings, kept: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns records with the images of which `count` gave `kept`."""
    records = settings.records()
    for name, record in records.items():
        if name == "regions":
            images = tuple(
                Agreement(**{key: np.asarray(part) for key, part in image[name].items()})
                for image in kept
            )
        else:
            images = tuple(np.array(image[name]) for image in kept)
        records[name] = dataclasses.replace(record, images=images)
    return records


class Worker:
    """Counts images of a data set and writes what it counted, one file each."""

    def __init__(self, root: str, settings: Settings, folder: pathlib.Path):
        cv2.setNumThreads(1)
        self._source = open_bsds500(root, settings.split)
        self._settings, self._folder = settings, folder
        self._system = make_system(settings.edges, settings.model)

    def __call__(self, index: int) -> None:
        truths = self._source.segmentations(index)
        kept = count(self._system, self._settings, self._source[index].image, truths)
        write_atomic(image_file(self._folder, self._source.names[index]), json.dumps(kept))


def image_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where what was counted in an image is kept."""
    return folder / f"{pathlib.PurePath(name).stem}.json"


_worker: Worker  # of this process; a detector may not be picklable


def _start(*arguments: Any) -> None:
    global _worker
    _worker = Worker(*arguments)


def _work(index: int) -> None:
    _worker(index)


def make_pool(processes: int, arguments: tuple[Any, ...]) -> concurrent.futures.Executor:
    """Returns processes of one thread each, with a `Worker` made of the arguments in each."""
    os.environ.update(WORKER_ENVIRONMENT)
    return concurrent.futures.ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _start, arguments
    )


def keep(folder: pathlib.Path, settings: Settings) -> None:
    """Makes the folder of counts, or checks that its counts are of the same settings."""
    file, text = folder / "settings.json", json.dumps(dataclasses.asdict(settings), indent=2)
    if file.exists() and file.read_text() != text:
        raise UserError(f"{folder} holds counts of other settings; delete it or set another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text)


def score(
    root: str, settings: Settings, folder: pathlib.Path, limit: int | None, processes: int
) -> dict[str, Any]:
    """Returns settings, scores, curves and seconds, counting what is not in the folder yet."""
    names = open_bsds500(root, settings.split).names
    number = min(limit or len(names), len(names))
    chosen = [i * len(names) // number for i in range(number)]
    make_system(settings.edges, settings.model)  # what is wrong with it is said before all else
    keep(folder, settings)
    todo = [i for i in chosen if not image_file(folder, names[i]).exists()]
    with Bar("scored", number) as bar, make_pool(processes, (root, settings, folder)) as pool:
        bar.start(number - len(todo))
        try:
            for future in concurrent.futures.as_completed([pool.submit(_work, i) for i in todo]):
                future.result()
                bar.add()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    kept = [json.loads(image_file(folder, names[i]).read_text()) for i in chosen]
    times = {key: [image["seconds"][key] for image in kept] for key in kept[0]["seconds"]}
    seconds = {
        key: dict(zip(("wall", "cpu"), np.median(each, axis=0).round(3).tolist(), strict=True))
        for key, each in times.items()
    }
    records = collect(settings, kept)
    return {
        "settings": dataclasses.asdict(settings),
        "images": number,
        "seconds": seconds,
        "scores": {name: record.result() for name, record in records.items()},
        "curves": {
            name: np.column_stack([record.thresholds, record.curve()]).round(6).tolist()
            for name, record in records.items()
        },
    }


def table(found: dict[str, Any]) -> str:
    """Returns tables of the scores, each beside the published figures."""
    lines = []
    for name, scores in found["scores"].items():
        rows = {found["settings"]["edges"]: {key: f"{scores[key]:.3f}" for key in COLUMNS[name]}}
        rows |= {f"{key} (published)": parts.get(name, {}) for key, parts in PUBLISHED.items()}
        lines += [
            f"| {name} | {' | '.join(COLUMNS[name])} |",
            "|---" * (len(COLUMNS[name]) + 1) + "|",
        ]
        for title, values in rows.items():
            if values:
                cells = (str(values.get(key, "")) for key in COLUMNS[name])
                lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    seconds = ", ".join(f"{key} {value['cpu']}" for key, value in found["seconds"].items())
    return "\n".join([*lines, f"{found['images']} images; median processor seconds: {seconds}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    command = parser.add_subparsers(required=True).add_parser("score")
    command.add_argument("--root", required=True)
    command.add_argument("--edges", required=True)
    command.add_argument("--model", default="")
    command.add_argument("--hierarchy", action="store_true")
    command.add_argument("--split", default="test")
    command.add_argument("--limit", type=int)
    command.add_argument("--thresholds", type=int, default=20)
    command.add_argument("--region-thresholds", type=int, default=99)
    command.add_argument("--processes", type=int, default=2)
    command.add_argument("--out", required=True, type=pathlib.Path)
    given = parser.parse_args()
    settings = Settings(
        **{field.name: getattr(given, field.name) for field in dataclasses.fields(Settings)}
    )
    folder = given.out.with_suffix(".images")
    try:
        found = score(given.root, settings, folder, given.limit, given.processes)
    except UserError as error:
        sys.exit(f"error: {error}")
    write_atomic(given.out, json.dumps(found | {"published": PUBLISHED}, indent=2))
    print(table(found))


if __name__ == "__main__":
    main()
