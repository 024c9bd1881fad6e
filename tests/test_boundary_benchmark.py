"""The benchmark of edge detectors on BSDS500, with a plain gradient in the place of a detector."""

import concurrent.futures
import json

import numpy as np
import pytest

from benchmarks import boundaries as benchmark
from jaxseg.boundaries.edges import with_angles
from jaxseg.core import UserError
from jaxseg.data.bsds500 import open_bsds500
from jaxseg.evaluation.boundaries import BoundaryScores, contours, even_thresholds
from jaxseg.evaluation.segmentations import SegmentationScores
from tests.data.layouts_scenes import write_bsds500


def gradient(image):
    dy, dx = np.gradient(image.astype(np.float32).mean(axis=-1) / 255)
    return with_angles(np.minimum(4 * np.hypot(dy, dx), 1))


def doubled(edges):
    """Returns contours between pixels: the larger strength of the two."""
    height, width = edges.strength.shape
    ucm2 = np.zeros((2 * height + 1, 2 * width + 1))
    place = np.pad(np.repeat(np.repeat(edges.strength, 2, axis=0), 2, axis=1), ((1, 0), (1, 0)))
    ucm2[:] = np.maximum(place, np.roll(place, -1, (0, 1)))
    ucm2[1::2, 1::2] = 0
    return ucm2


@pytest.fixture
def settings():
    return benchmark.Settings(
        split="train", edges="plain", model="", hierarchy=True, thresholds=4, region_thresholds=6
    )


@pytest.fixture
def seen(monkeypatch):
    """Returns a list that the stand-in adds to at each image; work is done in this process."""
    calls = []

    def detect(image):
        calls.append(image)
        return gradient(image)

    def pool(processes, arguments):
        return concurrent.futures.ThreadPoolExecutor(1, "", benchmark._start, arguments)

    system = benchmark.System(detect, lambda edges: edges.strength, doubled)
    monkeypatch.setattr(benchmark, "make_system", lambda name, model: system)
    monkeypatch.setattr(benchmark, "make_pool", pool)
    return calls


def test_scores_are_those_of_the_records(tmp_path, settings, seen):
    write_bsds500(tmp_path)
    source = open_bsds500(str(tmp_path), "train")
    found = benchmark.score(str(tmp_path), settings, tmp_path / "kept", None, 1)
    assert found["images"] == len(source) == len(seen)
    edges = hierarchy = BoundaryScores(even_thresholds(4))
    regions = SegmentationScores(even_thresholds(6))
    for index in range(len(source)):
        strength, truths = gradient(source[index].image), source.segmentations(index)
        edges = edges.update(strength.strength, truths)
        hierarchy = hierarchy.update(contours(doubled(strength)), truths)
        regions = regions.update(doubled(strength), truths)
    expected = {"edges": edges, "hierarchy": hierarchy, "regions": regions}
    assert found["scores"] == {name: record.result() for name, record in expected.items()}
    assert 0 < found["scores"]["edges"]["ods"] < 1
    json.dumps(found)
    lines = benchmark.table(found).splitlines()
    ods = f"{found['scores']['edges']['ods']:.3f}"
    assert any(line.startswith(f"| plain | {ods} |") for line in lines)
    assert "| structured forests (published) | 0.746 |  |  |" in lines
    assert any(line.startswith("| gPb-OWT-UCM (published) | 0.59 | 0.65 |") for line in lines)


def test_a_run_that_was_stopped_goes_on(tmp_path, settings, seen, monkeypatch):
    write_bsds500(tmp_path)
    whole = benchmark.score(str(tmp_path), settings, tmp_path / "whole", None, 1)
    count = len(seen)
    assert count > 2
    work = benchmark._work

    def fail(index):
        if index == count - 1:
            raise OSError("the disk is full")
        work(index)

    monkeypatch.setattr(benchmark, "_work", fail)
    with pytest.raises(OSError, match="the disk is full"):
        benchmark.score(str(tmp_path), settings, tmp_path / "kept", None, 1)
    monkeypatch.setattr(benchmark, "_work", work)
    seen.clear()
    again = benchmark.score(str(tmp_path), settings, tmp_path / "kept", None, 1)
    assert len(seen) == 1
    assert again["scores"] == whole["scores"]
    seen.clear()
    assert benchmark.score(str(tmp_path), settings, tmp_path / "kept", 2, 1)["images"] == 2
    assert not seen
    other = benchmark.dataclasses.replace(settings, thresholds=5)
    with pytest.raises(UserError, match="holds counts of other settings"):
        benchmark.score(str(tmp_path), other, tmp_path / "kept", None, 1)
