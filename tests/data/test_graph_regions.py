"""Regions that are computed from images."""

import concurrent.futures
import dataclasses
import pickle

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxseg.core import UserError
from jaxseg.data.bsds500 import open_bsds500
from jaxseg.data.cache import Cached
from jaxseg.data.camvid import open_camvid
from jaxseg.data.graph_regions import GraphRegions, graph_regions
from jaxseg.data.pipeline import Pipeline
from jaxseg.data.scenes import Scenes
from jaxseg.data.source import Example
from jaxseg.data.with_regions import open_regions
from jaxseg.sharding import make_mesh
from jaxseg.views.geometry import EvalView, TrainView, resize

COLOURS = np.array([[250, 20, 20], [20, 240, 30], [30, 20, 230], [240, 230, 40]], np.uint8)


def quarters(height=60, width=80):
    """An image of four colours and which of them is where."""
    y, x = np.indices((height, width))
    truth = 2 * (y >= height // 2) + (x >= width // 3)
    return COLOURS[truth], truth


@dataclasses.dataclass(frozen=True)
class Noise:
    """Images of smooth noise, of two sizes and with four channels; counts what is read."""

    reads: list[int] = dataclasses.field(default_factory=list)
    classes = {}  # noqa: RUF012

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.reads.append(index)
        shape = (70, 90, 4) if index % 2 else (400, 300, 4)
        noise = np.random.default_rng(index).normal(size=shape)
        noise = ndimage.gaussian_filter(noise, (4, 4, 0))
        image = np.clip(128 + noise * 900, 0, 255).astype(np.uint8)
        return Example(image, name=f"{index}.png")


@pytest.mark.parametrize(("shape", "margin"), [((60, 80), 9), ((600, 900), 31)])
def test_regions_of_colours_are_the_colours(shape, margin):
    image, truth = quarters(*shape)
    regions = graph_regions(image, 48)
    assert regions.dtype == np.int32
    assert regions.shape == shape
    # Along the edges the blur leaves narrow strips, regions of their own.
    inside = ndimage.maximum_filter(truth, margin) == ndimage.minimum_filter(truth, margin)
    pairs = set(zip(regions[inside], truth[inside], strict=True))
    assert len(pairs) == 4 == len({region for region, _ in pairs})
    assert set(np.unique(regions)) == set(range(regions.max() + 1))


@pytest.mark.parametrize("shape", [(40, 30, 3), (1, 1, 3), (1, 700, 3), (300, 3, 4)])
def test_an_image_of_one_colour_is_one_region(shape):
    regions = graph_regions(np.full(shape, 77, np.uint8), 48)
    np.testing.assert_array_equal(regions, np.zeros(shape[:2], np.int32))


@pytest.mark.parametrize("limit", [1, 2, 7, 48])
def test_regions_are_no_more_than_the_limit_and_connected(limit):
    image = Noise()[1].image
    regions = graph_regions(image, limit)
    count = regions.max() + 1
    assert max(1, limit // 8) <= count <= limit
    for number in range(count):
        assert ndimage.label(regions == number, np.ones((3, 3)))[1] == 1
    np.testing.assert_array_equal(regions, graph_regions(image, limit))


def test_a_limit_of_none():
    with pytest.raises(ValueError, match="the limit is 0"):
        graph_regions(quarters()[0], 0)


def test_a_source_with_regions_says_the_same_again_and_anywhere():
    made = GraphRegions(Noise(), 20)
    for index in (0, 1, -1):
        example = made[index]
        np.testing.assert_array_equal(example.regions, graph_regions(example.image, 20))
        for other in (made, pickle.loads(pickle.dumps(made))):
            np.testing.assert_array_equal(example.regions, other[index].regions)
    assert len(made._kept) == 3
    assert not pickle.loads(pickle.dumps(made))._kept
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        fresh = GraphRegions(Noise(), 20)
        for index, example in enumerate(pool.map(fresh.__getitem__, [0, 1, 0, 1])):
            np.testing.assert_array_equal(example.regions, made[index % 2].regions)
    with pytest.raises(IndexError):
        made[6]


def test_regions_are_computed_once(monkeypatch):
    made = GraphRegions(Cached(Noise()), 20)
    first = made[0]
    monkeypatch.setattr("jaxseg.data.graph_regions._small_regions", None)
    np.testing.assert_array_equal(made[0].regions, first.regions)


def test_views_carry_the_regions_of_their_pixels():
    # Pixels that tell where they are, so that their regions can be looked up.
    @dataclasses.dataclass(frozen=True)
    class Places:
        classes = {}  # noqa: RUF012

        def __len__(self):
            return 4

        def __getitem__(self, index):
            image, _ = quarters(56 + index)
            image[..., :2] = np.moveaxis(np.indices(image.shape[:2]), 0, -1)
            return Example(image)

    source, _ = open_regions(Places(), "graph", 48)
    pipeline = Pipeline(
        source=source,
        view=TrainView(crop=48, scale=(0.5, 1.5), interpolation="nearest"),
        eval_view=EvalView(),
        batch_size=4,
        seed=3,
        mesh=make_mesh(jax.devices()[:1]),
        views=2,
        regions=True,
    )
    batches = pipeline.batches()
    batch = jax.device_get(next(batches))
    batches.close()
    assert batch.regions.shape == (4, 2, 48, 48)
    assert batch.regions.dtype == np.int32
    for row, index in enumerate(batch.index):
        truth = graph_regions(Places()[int(index)].image, 48)
        assert truth.max() > 0
        for view in range(2):
            height, width = batch.size[row, view]
            y, x, _ = np.moveaxis(batch.image[row, view, :height, :width], -1, 0)
            regions = batch.regions[row, view].copy()
            np.testing.assert_array_equal(regions[:height, :width], truth[y, x])
            regions[:height, :width] = -1
            assert (regions == -1).all()
    assert (batch.regions == -1).any()


def test_a_folder_of_regions_and_what_the_header_says(tmp_path):
    with pytest.raises(UserError, match=r"data.regions is '.*': there is no folder"):
        open_regions(Noise(), str(tmp_path / "none"), 48)
    with pytest.raises(UserError, match="have no region map"):
        open_regions(Noise(), str(tmp_path), 48)
    for index in range(6):
        height, width = Noise()[index].image.shape[:2]
        y = np.arange(height)[:, None] // 9
        Image.fromarray(np.repeat(y, width, 1).astype(np.uint8)).save(tmp_path / f"{index}.png")
    made, line = open_regions(Noise(), str(tmp_path), 48)
    assert line == f"Regions: files in {tmp_path}"
    assert made[1].regions[10, 5] == 1
    stored, line = open_regions(made, "stored", 48)
    assert stored is made
    assert line == "Regions: those that are stored with the images"


def accuracy_at_best(regions, label):
    """Share of labelled pixels that have the most frequent label of their region."""
    known = label >= 0
    table = np.zeros((regions.max() + 1, label.max() + 1), int)
    np.add.at(table, (regions[known], label[known]), 1)
    return table.max(1).sum() / known.sum()


def squares(shape, count=7):
    grid = np.arange(count * count, dtype=np.int32).reshape(count, count)
    return resize(grid, *shape, "nearest")


def test_regions_of_real_streets_follow_their_objects(real_data):
    source = GraphRegions(open_camvid(str(real_data("camvid")), "val"), 48)
    found, by_chance = [], []
    for index in range(0, len(source), len(source) // 8):
        example = source[index]
        assert 8 <= example.regions.max() + 1 <= 48
        found.append(accuracy_at_best(example.regions, example.label["class"]))
        grid = squares(example.image.shape[:2])
        by_chance.append(accuracy_at_best(grid, example.label["class"]))
    assert np.mean(found) > np.mean(by_chance) + 0.03


def test_regions_of_real_photographs_meet_drawn_contours(real_data):
    photographs = open_bsds500(str(real_data("bsds500")), "val")
    found, by_chance = [], []
    for index in range(0, 100, 12):
        regions = graph_regions(photographs[index].image, 48)
        assert 8 <= regions.max() + 1 <= 48
        for drawn in photographs.segmentations(index):
            found.append(accuracy_at_best(regions, drawn))
            by_chance.append(accuracy_at_best(squares(drawn.shape), drawn))
    assert np.mean(found) > np.mean(by_chance) + 0.03


def test_regions_of_scenes_follow_their_objects():
    source = Scenes(split="train", count=6)
    found, by_chance = [], []
    for index in range(6):
        example = source[index]
        regions, label = graph_regions(example.image, 48), example.label["class"]
        found.append(accuracy_at_best(regions, label))
        by_chance.append(accuracy_at_best(squares(label.shape), label))
    assert np.mean(found) > np.mean(by_chance)
