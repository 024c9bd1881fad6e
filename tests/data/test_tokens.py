"""The token cache: never stale, never torn, whatever happens to the process or to the disk."""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data import disk, token_build, tokens
from jaxseg.data.fingerprint import of_features
from jaxseg.data.five_crop import FiveCrop
from jaxseg.data.folder import open_folder
from jaxseg.data.token_build import build_tokens, mean_features
from jaxseg.data.tokens import TokenStore
from jaxseg.views.geometry import TrainView

ROOT = pathlib.Path(__file__).parents[2]
COUNT, SHAPE = 11, (2, 3, 4)


def image(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (2, 3, 4), np.uint8)


class Encoder:
    """Features that float16 must round; remembers the sizes of its batches."""

    def __init__(self, scale: float = 1 / 3):
        self.scale = scale
        self.batches: list[int] = []

    def __call__(self, images):
        self.batches.append(len(images))
        return images.astype(np.float32) * self.scale


class Reader:
    def __init__(self):
        self.read: list[int] = []

    def __call__(self, index):
        self.read.append(index)
        return image(index)


def build(directory, fingerprint="f" * 64, **fields) -> TokenStore:
    values = {"count": COUNT, "read": image, "encode": Encoder(), "batch_size": 4}
    return build_tokens(directory, fingerprint, **values | fields)


def expected(index: int) -> np.ndarray:
    return (image(index).astype(np.float32) / 3).astype(np.float16)


def assert_right(store: TokenStore) -> None:
    assert len(store) == COUNT
    for index in range(COUNT):
        assert store[index].dtype == np.float16
        np.testing.assert_array_equal(store[index], expected(index))


@pytest.fixture
def shards_of_three(monkeypatch):
    monkeypatch.setattr(token_build, "SHARD_BYTES", 3 * 48 + 1)


def test_cached_features_are_those_computed_rounded_to_float16(tmp_path, shards_of_three):
    encode = Encoder()
    store = build(tmp_path / "new" / "cache", encode=encode)
    assert_right(store)
    assert set(encode.batches) == {4}  # one shape, so one compilation
    np.testing.assert_array_equal(store[-1], expected(COUNT - 1))
    with pytest.raises(IndexError):
        store[COUNT]
    files = sorted(p.name for p in pathlib.Path(store.folder).iterdir())
    shards = [f"tokens-0000{n}.npy" for n in range(4)]
    assert files == ["lock", "manifest.json", *shards]
    assert store.total_bytes == sum(store.path(n).stat().st_size for n in range(4))
    assert np.load(store.path(3), allow_pickle=False).shape == (2, *SHAPE)


def test_a_complete_cache_is_only_read(tmp_path):
    build(tmp_path)
    store = build(tmp_path, read=None, encode=None)
    assert_right(store)


def test_rows_are_the_callers_own(tmp_path):
    store = build(tmp_path)
    store[2][:] = 0
    assert_right(store)


@pytest.mark.parametrize(
    ("damage", "recomputed"),
    [
        (lambda folder: os.truncate(folder / "tokens-00001.npy", 200), {0, 3, 4, 5}),
        (lambda folder: os.truncate(folder / "tokens-00003.npy", 0), {0, 9, 10}),
        (lambda folder: (folder / "tokens-00002.npy").unlink(), {0, 6, 7, 8}),
        (lambda folder: shutil.copy(folder / "tokens-00003.npy", folder / "tokens-00000.npy"),
         {0, 1, 2}),
        (lambda folder: (folder / "manifest.json").unlink(), {0}),
        (lambda folder: (folder / "manifest.json").write_text("{"), {0}),
        (lambda folder: (folder / "manifest.json").write_text("[]"), {0}),
        (lambda folder: np.save(folder / "tokens-00001.npy", np.zeros((3, 4, 6), np.float16)),
         {0, 3, 4, 5}),
    ],
)  # fmt: skip
def test_damage_is_noticed_and_mended(tmp_path, shards_of_three, damage, recomputed):
    store = build(tmp_path)
    damage(pathlib.Path(store.folder))
    read = Reader()
    assert_right(build(tmp_path, read=read))
    assert set(read.read) == recomputed  # 0 shows the shape; whole shards stay


@pytest.mark.parametrize("change", ["fingerprint", "count", "shape", "dtype"])
def test_a_manifest_of_something_else_is_not_believed(tmp_path, change):
    store = build(tmp_path)
    path = pathlib.Path(store.folder, "manifest.json")
    other = {"fingerprint": "e" * 64, "count": 10, "shape": [4, 3, 2], "dtype": "float32"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {change: other[change]}))
    read = Reader()
    assert_right(build(tmp_path, read=read))
    assert read.read


@dataclasses.dataclass
class Inputs:
    """What features depend on, for a test to change one thing."""

    root: pathlib.Path
    weights: str = "w1"
    architecture: str = "vit"
    view: TrainView = dataclasses.field(
        default_factory=lambda: TrainView(crop=4, flip=False, position="centre")
    )
    five: bool = False

    def build(self, directory) -> list[int]:
        """Returns which images were read; their pixels do not matter here."""
        source = open_folder(str(self.root))
        source = FiveCrop(source) if self.five else source
        read = Reader()
        fingerprint = of_features(self.weights, self.architecture, source, self.view)
        build(directory, fingerprint, count=len(source), read=read)
        return read.read


def touch(inputs):
    path = next(inputs.root.iterdir())
    os.utime(path, ns=(5, 5))


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: setattr(inputs, "weights", "w2"),
        lambda inputs: setattr(inputs, "architecture", "resnet"),
        lambda inputs: setattr(inputs, "view", dataclasses.replace(inputs.view, crop=3)),
        lambda inputs: setattr(inputs, "view", dataclasses.replace(inputs.view, resize=9)),
        lambda inputs: setattr(
            inputs, "view", dataclasses.replace(inputs.view, interpolation="nearest")
        ),
        lambda inputs: setattr(inputs, "five", True),
        touch,
        lambda inputs: shutil.copy(inputs.root / "0.png", inputs.root / "9.png"),
    ],
)
def test_features_of_other_inputs_are_never_taken(tmp_path, change):
    (tmp_path / "images").mkdir()
    for number in range(2):
        pixels = np.full((10, 10, 3), number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    inputs = Inputs(tmp_path / "images")
    assert inputs.build(tmp_path / "cache")
    assert not inputs.build(tmp_path / "cache")
    change(inputs)
    assert inputs.build(tmp_path / "cache")
    assert not inputs.build(tmp_path / "cache")


# A build that says what it reads, one number a line, and takes its time for each batch.
SCRIPT = """
import sys, time
import numpy as np
from jaxseg.data import token_build

token_build.SHARD_BYTES = 3 * 48 + 1

def read(index):
    print(index, flush=True)
    return np.random.default_rng(index).integers(0, 256, (2, 3, 4), np.uint8)

def encode(images):
    time.sleep(float(sys.argv[2]))
    return images.astype(np.float32) / 3

print("ready", flush=True)
sys.stdin.readline()
token_build.build_tokens(sys.argv[1], "f" * 64, 11, read, encode, batch_size=2, threads=1)
"""


@contextlib.contextmanager
def process(directory, seconds: float):
    """A process that builds the cache once it is told to."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(directory), str(seconds)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def go(started) -> None:
    assert started.stdout.readline() == "ready\n"
    started.stdin.write("\n")
    started.stdin.flush()


def test_a_killed_build_goes_on_after_its_finished_shards(tmp_path, shards_of_three):
    folder = tmp_path / ("f" * 64)
    with process(tmp_path, 0.2) as started:
        go(started)
        until = time.monotonic() + 60
        # Two whole shards, and a third on its way.
        while not ((folder / "tokens-00001.npy").exists() and list(folder.glob("*.tmp"))):
            assert started.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
    assert list(folder.glob("*.tmp"))
    assert not (folder / "manifest.json").exists()
    read = Reader()
    assert_right(build(tmp_path, read=read))
    assert not set(read.read) & {1, 2, 3, 4, 5}
    assert not list(folder.glob("*.tmp"))
    assert_right(build(tmp_path, read=None))


def test_two_builds_at_once_do_the_work_once(tmp_path, shards_of_three):
    with process(tmp_path, 0.05) as first, process(tmp_path, 0.05) as second:
        for started in (first, second):
            go(started)
        outputs = [started.communicate(timeout=60)[0].split() for started in (first, second)]
        assert first.returncode == second.returncode == 0
    assert sorted(map(int, outputs[0] + outputs[1])) == [0, *range(COUNT)]
    assert [] in outputs
    assert_right(build(tmp_path, read=None))


def test_without_locks_two_builds_are_still_right(tmp_path, shards_of_three, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(disk.fcntl, "flock", no_locks)

    def read(index):
        if index == 4:  # in the midst of this build, another one from start to end
            build(tmp_path)
        return image(index)

    assert_right(build(tmp_path, read=read))
    assert not list(tmp_path.glob("*/*.tmp"))


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=500))
    # 11 images of 48 bytes, and the header of one shard.
    with pytest.raises(UserError, match=r"data.tokens: .* is full: .* 656 bytes .* and 500 are fr"):
        build(tmp_path)
    assert not list(tmp_path.glob("*/tokens*"))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_while_writing(tmp_path, shards_of_three, monkeypatch, error):
    synced = []

    def fsync(number):
        synced.append(number)
        if len(synced) == 3:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(disk.os, "fsync", fsync)
    # Two shards of three images are there; missing are three images and two, with their headers.
    with pytest.raises(UserError, match=r"is full: .* needs 496 bytes"):
        build(tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*/tokens*")) == [
        "tokens-00000.npy",
        "tokens-00001.npy",
    ]
    assert_right(build(tmp_path))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data.tokens: cannot write below .*file"):
        build(tmp_path / "file")


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(("scale", "found"), [(1e6, r"\de\+08"), (np.nan, "nan")])
def test_features_that_float16_cannot_hold(tmp_path, scale, found):
    with pytest.raises(UserError, match=f"features reach .*{found}, which float16"):
        build(tmp_path, encode=Encoder(scale))
    assert not list(tmp_path.glob("*/tokens*"))


def test_errors_while_reading_reach_the_caller(tmp_path, shards_of_three):
    def read(index):
        if index == 7:
            raise UserError("image 7 is broken")
        return image(index)

    with pytest.raises(UserError, match="image 7 is broken"):
        build(tmp_path, read=read)
    assert not list(tmp_path.glob("*/*.tmp"))
    assert_right(build(tmp_path))


def test_progress_ends_with_all(tmp_path, shards_of_three, monkeypatch):
    done = []
    build(tmp_path, progress=done.append)
    assert done == [COUNT]
    monkeypatch.setattr(token_build, "_PROGRESS_SECONDS", -1.0)
    build(tmp_path, "e" * 64, progress=done.append)
    assert done[1:] == [4, 8, 11]
    store = build(tmp_path, "e" * 64)
    store.path(0).unlink()
    store.path(2).unlink()
    build(tmp_path, "e" * 64, progress=done.append)
    assert done[4:] == [9, 11]  # of six images, five were there


def test_a_store_travels_to_other_processes_without_its_maps(tmp_path):
    store = build(tmp_path)
    assert_right(store)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert_right(pickle.loads(sent))


def test_few_shards_are_open_at_once(tmp_path, shards_of_three, monkeypatch):
    monkeypatch.setattr(tokens, "_OPEN_SHARDS", 2)
    store = build(tmp_path)
    for index in (0, 4, 10, 1, 7):
        np.testing.assert_array_equal(store[index], expected(index))
        assert len(store._maps) <= 2


def test_a_shard_that_is_cut_short_while_in_use(tmp_path, shards_of_three):
    store = build(tmp_path)
    os.truncate(store.path(1), 150)
    np.testing.assert_array_equal(store[0], expected(0))
    with pytest.raises(UserError, match=r"cannot read the token cache .*tokens-00001.npy"):
        store[4]
    np.save(store.path(2), np.zeros((3, 2, 3, 5), np.float16))
    with pytest.raises(UserError, match=r"float16 of shape \(3, 2, 3, 5\), expected .*3, 2, 3, 4"):
        store[7]


def test_means_are_unit_vectors_with_and_without_the_cache(tmp_path):
    store = build(tmp_path)
    means = np.stack([expected(index).astype(np.float64).mean((0, 1)) for index in range(COUNT)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(store.means(), means, rtol=1e-5)
    direct = mean_features(COUNT, image, Encoder(), batch_size=4)
    np.testing.assert_array_equal(direct, store.means())
    assert direct.dtype == np.float32


def test_derived_arrays_are_made_once(tmp_path):
    store = build(tmp_path)
    made = []

    def make():
        made.append(1)
        return np.arange(6).reshape(2, 3)

    for _ in range(2):
        np.testing.assert_array_equal(store.derived("six", make), make())
    assert len(made) == 3
    os.truncate(pathlib.Path(store.folder, "six.npy"), 130)
    np.testing.assert_array_equal(store.derived("six", make), make())
    np.testing.assert_array_equal(np.load(pathlib.Path(store.folder, "six.npy")), make())
