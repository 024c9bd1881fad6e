"""The benchmarks of kernels, steps and of cost growth: what they count and what they print."""

import dataclasses
import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Method, Output, State

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _scripts_beside_one_another():
    """Lets the scripts import each other, as they do when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield


@pytest.fixture(scope="module")
def kernels():
    return importlib.import_module("kernels")


@pytest.fixture(scope="module")
def work():
    return importlib.import_module("kernel_work")


@pytest.fixture(scope="module")
def growth():
    return importlib.import_module("growth")


@pytest.fixture
def printed(monkeypatch, capsys):
    """Returns a function that runs a script's main and reads what it prints."""

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *words])
        module.main()
        return json.loads(capsys.readouterr().out)

    return run


class Counted:
    """A number that counts the operations done with it."""

    done = 0

    def __init__(self, value):
        self.value = value

    def _with(self, other):
        Counted.done += 1
        return Counted(getattr(other, "value", other))

    __add__ = __radd__ = __mul__ = __lt__ = _with


def operations(function):
    Counted.done = 0
    function()
    return Counted.done


def dot(one, other):
    total = 0
    for x, y in zip(one, other, strict=True):
        total = total + x * y
    return total


def vectors(count, dim):
    return [[Counted(1.0) for _ in range(dim)] for _ in range(count)]


def compare(points, centroids):
    """Does what one round of k-means does: products, comparisons, sums."""
    sums = vectors(len(centroids), len(points[0]))
    for point in points:
        best = Counted(0.0)
        for centroid in centroids:
            product = dot(point, centroid)
            _ = best < product
            best = product
        for i, x in enumerate(point):
            sums[0][i] = sums[0][i] + x


def test_operations_of_kmeans_are_counted(work):
    done = operations(lambda: compare(vectors(5, 3), vectors(4, 3)))
    assert work.kmeans_needs(points=5, clusters=4, dim=3).flops == done


def test_operations_of_the_grid_kmeans_are_those_of_its_rounds(work):
    # Features of 3 with y and x, on 2 x 2 cells; 3 images of 2 rounds.
    done = operations(lambda: compare(vectors(4, 5), vectors(4, 5)))
    needs = work.grid_kmeans_needs(images=3, side=2, grid=2, dim=3, rounds=2)
    assert needs.flops == 3 * 2 * done


def test_operations_of_retrieval_are_counted(work):
    def search():
        for query in vectors(3, 4):
            for member in vectors(6, 4):
                _ = Counted(0.0) < dot(query, member)

    assert work.retrieval_needs(queries=3, bank=6, dim=4, neighbours=2).flops == operations(search)


def test_operations_of_the_contrast_are_counted(work):
    """Of each pair: a product, a scale, exp and two sums; then both gradients of the product."""

    def pair(cell, segment):
        score = dot(cell, segment) * 16.0
        powers = score + 0  # stands for exp, one operation
        _ = powers + 0, powers + 0  # of all others, of the positives
        for x, y in zip(cell, segment, strict=True):
            _ = x + y * powers, y + x * powers

    def contrast():
        for cell in vectors(2 * 3, 4):
            for segment in vectors(2 * 5, 4):
                pair(cell, segment)

    needs = work.contrast_needs(images=2, cells=3, slots=5, dim=4)
    assert needs.flops == operations(contrast)


def test_operations_of_the_confusion_are_counted(work):
    def count():
        for prediction in range(7):
            place = Counted(prediction) * 3 + 1
            _ = place + 1

    assert work.confusion_needs(pixels=7, classes=3).flops == operations(count)


def test_bytes_are_those_of_the_arrays(work):
    points, weights = np.zeros((5, 3), np.float32), np.zeros(5, np.float32)
    centroids, counts = np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
    assert work.kmeans_needs(points=5, clusters=4, dim=3).bytes == (
        points.nbytes + weights.nbytes + 2 * centroids.nbytes + counts.nbytes
    )


def test_crf_needs_grow_with_steps_and_vertices(work, monkeypatch):
    monkeypatch.setattr(work, "vertices", lambda side: 10)
    few, many = (work.crf_needs(side=8, classes=3, steps=n) for n in (1, 4))
    assert (many.flops, many.bytes) == (4 * few.flops, 4 * few.bytes)
    assert few.flops == 71 * 64 * 3 + 18 * 10 * 3


def test_the_roofline_is_the_later_of_computing_and_moving(kernels, work):
    told = kernels.against_peaks(2.0, work.Needs(flops=10.0, bytes=3.0), 10.0, 6.0)
    assert (told["bound"], told["fraction"]) == ("operations", 0.5)
    told = kernels.against_peaks(2.0, work.Needs(flops=10.0, bytes=3.0), 1e9, 6.0)
    assert (told["bound"], told["fraction"]) == ("bytes", 0.25)


def test_kernels_prints_each_kernel_at_the_given_sizes(kernels, printed, monkeypatch):
    monkeypatch.setattr(kernels, "peak_flops", lambda *_: 1e9)
    monkeypatch.setattr(kernels, "peak_bytes", lambda *_: 1e9)
    small = (
        "points=64,images=2,cells=6,slots=4,dim=4,classes=3,pixels=50,queries=5,bank=30,"
        "neighbours=2,clusters=3"
    )
    # The CRF's four table sizes take too long to compile.
    names = ["kmeans", "contrast", "confusion", "hungarian", "retrieval"]
    result = printed(kernels, "--repeats=1", f"--set={small}", f"--only={','.join(names)}")
    assert result["peak_GFLOPS"] == 1
    assert list(result["kernels"]) == names
    for name, rows in result["kernels"].items():
        assert len(rows) == 1, "equal sizes are measured once"
        row = rows[0]
        assert row["where"] == ("host" if name == "hungarian" else "device")
        assert ("xla_GFLOP" in row) == (name != "hungarian")
        assert row["ms"] > 0
        assert row["fraction"] == pytest.approx(row["bound_ms"] / row["ms"], abs=0.01)


_SIDE, _WIDTH = 16, 512


@dataclasses.dataclass(frozen=True)
class Frozen(Method):
    """Learns a scale of frozen features: the images times a matrix that nothing moves."""

    def init(self, key, spec):
        table = jax.random.normal(key, (_SIDE * _SIDE * 3, _WIDTH))
        return State(jnp.zeros((), jnp.int32), {"scale": jnp.ones(())}, {}, {"table": table})

    def _features(self, state, image):
        return (image.reshape(len(image), -1) / 255) @ state.frozen["table"]

    def loss(self, state, batch, key):
        loss = (state.params["scale"] * self._features(state, batch.first_view)).mean()
        return loss, (state.extra, {})

    def predict(self, state, image):
        return Output(features=self._features(state, image)[:, None, None])


def test_steps_counts_and_times_the_parts_of_a_step(printed, monkeypatch, tmp_path):
    steps = importlib.import_module("steps")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/frozen_scenes.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(): return ConfigDict({'method': {'name': 'frozen'}, 'data':"
        f" {{'name': 'scenes', 'batch_size': 8, 'crop': {_SIDE}}}, 'optim': {{}}}})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(steps.build.METHODS, "frozen", Frozen)
    monkeypatch.setattr(steps, "peak_flops", lambda *_: 1e9)
    kept = jax.config.jax_compilation_cache_dir
    try:
        found = printed(steps, "--method=frozen", "--repeats=1")
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
    assert (found["config"], found["batch"]) == ("configs/frozen_scenes.py", 8)
    # One image a device. From constants the frozen features would have been computed in advance.
    product = 2 * _SIDE * _SIDE * 3 * _WIDTH / 1e9
    assert found["devices"] == 8
    for part in ("predict", "loss", "gradient", "step"):
        assert product * 0.99 < found[part]["GFLOP"] < 2 * product, part
        assert found[part]["seconds"] >= 0
    assert found["gradient"]["beyond"] == pytest.approx(
        found["gradient"]["seconds"] - found["loss"]["seconds"], abs=1e-4
    )
    assert "beyond" not in found["predict"]
    # The matrix, which each device holds, is an argument of the step.
    assert found["planned_MB"] >= 4 * _SIDE * _SIDE * 3 * _WIDTH / 1e6 - 0.05
    assert found["resident_MB"] > 50


@pytest.mark.parametrize("power", [0, 1, 1.7, 4])
def test_exponents_of_powers_are_found(growth, power):
    values = [2, 4, 8, 16]
    costs = [100.0, *(3 * v**power for v in values[1:])]  # the first size is not looked at
    assert growth.exponent(values, costs) == pytest.approx(power)


def test_the_verdict_allows_a_quarter_more_than_the_order(growth):
    values = [1, 2, 4]
    assert growth.told(values, [v**1.2 for v in values], 1, "ms")["within"] is True
    assert growth.told(values, [v**1.3 for v in values], 1, "ms")["within"] is False
    assert growth.told(values, [0, 0, 0], 1, "MB")["within"] is None


@pytest.mark.parametrize("ones", [np.ones, jnp.ones])
def test_memory_of_a_call_counts_arrays_of_numpy_and_jax(growth, ones):
    def one_after_another(count, size):
        for _ in range(count):
            jax.block_until_ready(ones(size, np.float32))

    assert growth.peak_bytes(lambda: one_after_another(3, 5_000_000)) == pytest.approx(2e7, rel=0.2)
    together = growth.peak_bytes(lambda: [ones(5_000_000, np.float32) for _ in range(3)])
    assert together == pytest.approx(6e7, rel=0.2)


def test_exchanges_between_devices_are_counted_by_their_results(growth):
    text = """
      %a = f32[8,4]{1,0} all-reduce(%x), replica_groups={}
      %b = (f32[2]{0}, s32[2,3]{1,0}) all-gather(%y, %z), dimensions={1}
      %c = pred[5]{0} all-gather-start(%p)
      %d = f32[9]{0} add(%all-reduce.1, %a)
      %e = bf16[3]{0} reduce-scatter(%q)
    """
    assert growth.exchanges(text) == [128, 8 + 24, 5, 6]


def test_growth_prints_and_draws_its_curves(growth, printed, monkeypatch, tmp_path):
    monkeypatch.setattr(
        growth,
        "CURVES",
        {
            "clusters": (
                growth.curve(growth.kernels.hungarian, "classes", 4, 3, 2, "C^3", times=2),
                growth.curve(
                    growth.work.assignment, "clusters", 2, 1, 1, "N K D", 2, points=8, dim=4
                ),
            ),
            "data": (
                growth.curve(growth.work.listing, "images", 2, 1, 1, "N log N", times=2),
                growth.curve(growth.work.headers, "images", 2, 1, 1, "N", times=2),
            ),
        },
    )
    monkeypatch.setattr(growth, "DEVICES", {growth.work.kmeans_devices: ("N K D", -1, 0)})
    result = printed(growth, "--repeats=1", f"--figure={tmp_path / 'growth.png'}")["curves"]
    assert {axis: list(curves) for axis, curves in result.items()} == {
        "clusters": ["hungarian by classes", "assignment by clusters"],
        "data": ["listing by images", "headers by images"],
        "devices": ["kmeans_devices"],
    }
    found = result["data"]["listing by images"]
    assert found["values"] == [2, 4, 8]
    assert len(found["time"]["ms"]) == len(found["memory"]["MB"]) == 3
    devices = result["devices"]["kmeans_devices"]
    assert devices["exchanges"]["number"][0] > 0
    # Sums of 27 centroids of 64 numbers, and 27 weights, are exchanged.
    assert devices["exchanged"]["MB"][0] == pytest.approx(4 * 27 * 65 / 1e6, abs=1e-4)
    assert devices["memory"]["exponent"] < -0.75
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_linked_folders_hold_so_many_images(growth):
    work = growth.work
    assert len(work.listing(images=5).call()) == 5
    assert work.headers(images=5).call() == [(32, 32)] * 5


@pytest.mark.parametrize("name", ["smooseg", "stego_partners"])
def test_small_operations_run(growth, name):
    sizes = {
        "smooseg": {"images": 2, "side": 2, "clusters": 3},
        "stego_partners": {"images": 9, "dim": 2},
    }[name]
    leaves = growth.jax.tree.leaves(getattr(growth.work, name)(**sizes).call())
    assert all(np.isfinite(leaf).all() for leaf in leaves)
