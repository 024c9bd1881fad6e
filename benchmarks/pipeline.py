"""Images/s of decoding and cropping JPEGs, as JSON: files and packed shards against plain OpenCV.

python benchmarks/pipeline.py --repeats=5 --batch=32
python benchmarks/pipeline.py --repeats=5 --batch=8 --resize=320

For images of 480 x 360 and of 2048 x 1024 (those of JAXSEG_DATA/camvid, resized; drawn ones without
it) it measures, in one and in two threads and processes:

    opencv_threads    read a file, imdecode, cut a random crop; a thread pool, and nothing else
    opencv_batches    the same into batches, which no training can do without
    files, packed,    what the input pipeline does up to a batch: order, views, maps, stacking;
    decoded           from files, from shards of them, from shards of pixels (pack --decoded)

The crop is 320, and nothing is mirrored. With --resize the shorter side becomes so long first
(INTER_LINEAR in all); without, nothing is resized, and all decode the same pixels and differ in
what is around it. Rounds of the variants take turns, so that other programs on the machine slow all
of them alike; each number is the median over the rounds, the ratio that of the rounds' ratios.
Processor time, which other programs hardly change, is that of the variants without worker
processes.
"""

import argparse
import concurrent.futures
import contextlib
import io
import itertools
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import cv2
import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from jaxseg.commands.pack import Packer
from jaxseg.data.folder import open_folder
from jaxseg.data.packed import open_packed
from jaxseg.data.pipeline import Pipeline
from jaxseg.data.source import Source
from jaxseg.views.geometry import EvalView, TrainView, shorter_side

# Height, width, images, and images in a round: a second or two of reading.
SIZES = {"480x360": (360, 480, 512, 2048), "2048x1024": (1024, 2048, 128, 384)}
CROP = 320
Run = Callable[[int], tuple[float, float]]  # seconds and processor seconds of a number of images
# What the pipeline keeps ready at most: batches beside two for each thread and process, and images
# for each thread, which reads so many small ones together, and one thread more.
AHEAD, TOGETHER = 3, 64


def write_images(folder: pathlib.Path, height: int, width: int, count: int) -> None:
    """Writes JPEGs of quality 90: frames of CamVid resized, or drawn noise of many scales."""
    data = pathlib.Path(os.environ.get("JAXSEG_DATA", "../shared/data"))
    frames = sorted(data.glob("camvid/images/train/*"))
    folder.mkdir()
    for index in range(count):
        if frames:
            picture = Image.open(frames[index % len(frames)]).convert("RGB")
        else:
            rng = np.random.default_rng(index)
            layers = [rng.integers(0, 128, (n, n, 3), np.uint8) for n in (8, 64)]
            first, second = (Image.fromarray(a).resize((width, height)) for a in layers)
            picture = Image.fromarray(np.asarray(first) + np.asarray(second))
        picture.resize((width, height), Image.Resampling.BICUBIC).save(
            folder / f"{index:04d}.jpg", quality=90
        )


def clocks() -> np.ndarray:
    """Returns the time and the processor time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def opencv(folder: pathlib.Path, threads: int, resize: int, batch: int) -> Run:
    """Returns what times a number of images with OpenCV and a thread pool alone.

    They come in batches of `batch`, each read by one thread; 0: one by one.
    """
    paths = [str(path) for path in sorted(folder.iterdir())]

    def crop(index: int) -> np.ndarray:
        rng = np.random.default_rng(index)
        with open(paths[index % len(paths)], "rb") as file:
            data = np.frombuffer(file.read(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if resize:
            height, width = shorter_side(image.shape, resize)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        y = rng.integers(image.shape[0] - CROP + 1)
        x = rng.integers(image.shape[1] - CROP + 1)
        return image[y : y + CROP, x : x + CROP]

    def read(task: int) -> np.ndarray:
        if not batch:
            return crop(task).copy()
        images = np.empty((batch, CROP, CROP, 3), np.uint8)
        for row in range(batch):
            images[row] = crop(task * batch + row)
        return images

    def run(count: int) -> tuple[float, float]:
        began = clocks()
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, range(count // max(batch, 1))):
                pass
        return tuple(clocks() - began)

    return run


def pipeline(source: Source, batch: int, threads: int, workers: int, resize: int) -> Run:
    """Returns what times a number of images through the input pipeline."""
    view = TrainView(crop=CROP, resize=resize, interpolation="linear", flip=False)
    batches = Pipeline(
        source=source, view=view, eval_view=EvalView(), batch_size=batch, seed=0,
        mesh=Mesh(np.array(jax.devices()[:1]), ("data",)), threads=threads, workers=workers,
        prefetch=threads,
    ).batches(0)  # fmt: skip

    def run(count: int) -> tuple[float, float]:
        ready = AHEAD + 2 * (threads + workers) + TOGETHER * (threads + 1) // batch
        for _ in itertools.islice(batches, ready):
            pass  # read ahead while the others were measured; they do not count
        began = clocks()
        for placed in itertools.islice(batches, count // batch):
            assert placed.image is not None
            placed.image.block_until_ready()
        return tuple(clocks() - began)

    return run


def variants(folder: pathlib.Path, top: pathlib.Path, batch: int, resize: int) -> dict[str, Run]:
    """Returns what is measured, by name."""
    made: dict[str, Run] = {}
    sources: dict[str, Source] = {"files": open_folder(str(folder))}
    for name in ("packed", "decoded"):
        with contextlib.redirect_stdout(io.StringIO()):
            packer = Packer(top / name, "folder", {}, decoded=name == "decoded")
            packer.pack({"": sources["files"]})
        sources[name] = open_packed(str(top / name), "")
    for number in (1, 2):
        made[f"opencv_threads_{number}"] = opencv(folder, number, resize, 0)
        made[f"opencv_batches_{number}"] = opencv(folder, number, resize, batch)
        for name, source in sources.items():
            made[f"{name}_threads_{number}"] = pipeline(source, batch, number, 0, resize)
    for name, source in sources.items():
        for number in (1, 2):
            # With workers, each process has one thread.
            made[f"{name}_workers_{number}"] = pipeline(source, batch, 1, number, resize)
    return made


def measure(
    height: int, width: int, count: int, reads: int, batch: int, resize: int, repeats: int
) -> dict[str, object]:
    """Returns images/s of every variant, and ratios to those of OpenCV with as many threads."""
    with tempfile.TemporaryDirectory() as top:
        folder = pathlib.Path(top, "files")
        write_images(folder, height, width, count)
        runs = variants(folder, pathlib.Path(top), batch, resize)
        for run in runs.values():
            run(4 * batch)  # files into memory, processes started
        rates: dict[str, list[float]] = {name: [] for name in runs}
        cpu: dict[str, list[float]] = {name: [] for name in runs if "workers" not in name}
        for _ in range(repeats):
            for name, run in runs.items():
                time.sleep(0.5)  # until the others have read as far ahead as they may
                seconds, processor = run(reads)
                rates[name].append(reads / seconds)
                if name in cpu:
                    cpu[name].append(1e3 * processor / reads)
    ratios = {
        f"{name}/{plain}": np.median(np.divide(rates[name], rates[f"{plain}_{name[-1]}"]))
        for name in rates
        if not name.startswith("opencv")
        for plain in ("opencv_threads", "opencv_batches")
    }
    return {
        "images_per_second": {name: round(float(np.median(r)), 1) for name, r in rates.items()},
        "ratios": {name: round(float(ratio), 2) for name, ratio in ratios.items()},
        "cpu_ms_an_image": {name: round(float(np.median(ms)), 2) for name, ms in cpu.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--only", choices=list(SIZES), help="images of this size; default: all")
    parser.add_argument("--resize", type=int, default=0, help="shorter side; 0: as it is")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    found = {
        name: measure(*size, given.batch, given.resize, given.repeats)
        for name, size in SIZES.items()
        if given.only in (None, name)
    }
    setting = {"crop": CROP, "resize": given.resize, "batch_size": given.batch}
    print(json.dumps(setting | {"cores": os.cpu_count()} | found, indent=2))


if __name__ == "__main__":
    main()
