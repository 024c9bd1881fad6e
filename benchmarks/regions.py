"""Seconds an image of coherent regions by stage, and peak memory, for each edge detector, as JSON.

python benchmarks/regions.py --images=DIR [--model NAME=FILE ...]

The images are those below DIR, every n-th so that there are `--count`; numbers for images of
481 x 321 want a folder of such, as BSDS500's. Each detector has a process of its own with one
thread for OpenCV, BLAS and XLA, and goes through the images once after a warm-up on the first:

    edges      the detector alone
    hierarchy  oriented watershed and ultrametric contour map
    cut        the rising threshold of the detector's preset, and the region map at its end
    file       reading the image and writing the map: what is left of the whole command's work

Medians over the images: `seconds` on the clock, `cpu_seconds` of all threads, which other programs
hardly change. `peak_rss_mib` is the process's largest memory, of which `idle_rss_mib` was taken
before the first image. `coco_hours_16_cores` is arithmetic, not a measurement: 118,287 images at
these CPU seconds, a sixteenth each. A detector that cannot be opened says why.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import threadpoolctl

from jaxseg.boundaries.coherent import PRESETS
from jaxseg.boundaries.detectors import DETECTORS
from jaxseg.boundaries.ucm import make_hierarchy
from jaxseg.commands.region_map import Settings, make_map
from jaxseg.commands.region_pool import worker_environment
from jaxseg.core import UserError
from jaxseg.data.images import read_image

_COCO = 118_287


def timed(run: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """Returns what comes out, and [seconds, CPU seconds]."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, np.array([time.perf_counter() - wall, time.process_time() - cpu])


def peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def measure(name: str, model: str, paths: list[str]) -> dict[str, Any]:
    """Returns the numbers of one detector; runs in a process of its own."""
    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
    try:
        detect = DETECTORS[name](model)
    except UserError as error:
        return {"not run": str(error)}
    idle, rows, counts = peak_mib(), [], []
    cut = PRESETS[name]
    with tempfile.TemporaryDirectory() as out:
        settings = Settings("/", out, name, model, cut, 2048)
        for path in [paths[0], *paths]:
            image = read_image(path)
            edges, edge_time = timed(lambda image=image: detect(image))
            hierarchy, tree_time = timed(lambda edges=edges: make_hierarchy(edges))
            regions, cut_time = timed(lambda h=hierarchy: h.regions(cut.threshold(h)))
            counts.append(int(regions.max()) + 1)
            del image, edges, hierarchy, regions  # the whole command holds one image at a time
            _, all_time = timed(lambda path=path: make_map(settings, detect, path.lstrip("/")))
            stages = [edge_time, tree_time, cut_time]
            rows.append([*stages, np.maximum(all_time - np.sum(stages, axis=0), 0), all_time])
    medians = np.median(np.array(rows[1:]), axis=0).round(4)
    stages = ("edges", "hierarchy", "cut", "file", "whole")
    return {
        stage: {"seconds": float(wall), "cpu_seconds": float(cpu)}
        for stage, (wall, cpu) in zip(stages, medians, strict=True)
    } | {
        "regions_median": float(np.median(counts[1:])),
        "idle_rss_mib": idle,
        "peak_rss_mib": peak_mib(),
        "coco_hours_16_cores": round(float(medians[-1][1]) * _COCO / 16 / 3600, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    arguments = parser.parse_args()
    models = dict(word.split("=", 1) for word in arguments.model)
    found = [p for p in sorted(arguments.images.rglob("*")) if p.suffix in (".jpg", ".png")]
    paths = [str(p.resolve()) for p in found[:: max(1, len(found) // arguments.count)]]
    paths = paths[: arguments.count]
    results: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    results["images"], results["shape"] = len(paths), list(read_image(paths[0]).shape)
    for name in arguments.detectors:
        with worker_environment(), multiprocessing.get_context("spawn").Pool(1) as pool:
            results[name] = pool.apply(measure, (name, models.get(name, ""), paths))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
