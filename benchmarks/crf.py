"""The dense CRF against pydensecrf2 on the same images in the same run, as JSON.

python benchmarks/crf.py --images=DIR

Two kinds of inputs: the golden images with their probabilities (tests/golden/dense_crf.npz), and
`--count` pictures found below DIR, resized to `--size` squared, with `--classes` probabilities that
are made from the picture on a grid of 1/8 of its size, as a patch classifier's are: softmax of
distances to random pixels in colour and position. The library runs in one thread, jaxseg on all
cores. Both take turns `--repeats` times after a warm-up, so that what else the machine does hits
both: `time_ratio` is the median of the ratios of neighbouring runs, jaxseg to the library, and
`cpu_ratio` that of the CPU seconds of all threads. PAMR's are given in the same way. Agreement is
the share of pixels with equal labels, of the golden images also with the golden labels.
"""

import argparse
import json
import os
import pathlib
import time
from collections.abc import Callable

import cv2
import jax
import numpy as np

from jaxseg.refine import PAMR, DenseCRF, DenseCRFReference

ROOT = pathlib.Path(__file__).parents[1]
Example = tuple[np.ndarray, np.ndarray]


def golden() -> dict[str, Example]:
    """Returns probabilities f32[1 H W K] and images u8[1 H W 3] of the golden file by name."""
    arrays = np.load(ROOT / "tests/golden/dense_crf.npz")
    return {
        f"golden_{i}": (arrays[f"probabilities_{i}"][None], arrays[f"image_{i}"][None])
        for i in range(2)
    }


def agreement_with_golden() -> list[dict[str, float]]:
    """Returns, by golden image, with what share of its labels the library and jaxseg agree."""
    arrays = np.load(ROOT / "tests/golden/dense_crf.npz")
    refiners = {"golden_and_library": DenseCRFReference(), "golden_and_crf": DenseCRF()}

    def agreement(number: int, refiner: DenseCRF) -> float:
        labels = np.argmax(refiner(*golden()[f"golden_{number}"])[0], -1)
        return round(float(np.mean(labels == np.argmax(arrays[f"refined_{number}"], -1))), 5)

    return [{n: agreement(i, refiner) for n, refiner in refiners.items()} for i in range(2)]


def made(path: pathlib.Path, size: int, classes: int) -> Example:
    """Returns a picture of `size` squared and probabilities made from it."""
    rng = np.random.default_rng(0)
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    image = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    cells = size // 8
    coarse = cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA) / 40
    place = np.stack(np.mgrid[:cells, :cells], axis=-1) * 4 / cells
    features = np.concatenate([coarse, place], axis=-1)
    centres = features.reshape(-1, 5)[rng.choice(cells**2, classes, replace=False)]
    logits = -((features[:, :, None] - centres) ** 2).sum(-1)
    logits += rng.normal(0, 0.5, logits.shape)
    planes = [cv2.resize(plane, (size, size)) for plane in np.moveaxis(logits, -1, 0)]
    powers = np.exp(np.stack(planes, axis=-1))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)[None], image[None]


def timed(run: Callable[[], jax.Array]) -> tuple[float, float]:
    """Returns the wall and CPU seconds of a run."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(run())
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(probabilities: np.ndarray, image: np.ndarray, repeats: int) -> dict:
    """Returns agreement of labels with the library, and seconds and ratios of medians."""
    refiners = {"library": DenseCRFReference(), "crf": DenseCRF(), "pamr": PAMR()}
    labels = {name: np.argmax(run(probabilities, image), -1) for name, run in refiners.items()}
    turns = [
        {name: timed(lambda run=run: run(probabilities, image)) for name, run in refiners.items()}
        for _ in range(repeats)
    ]
    seconds = {name: np.asarray([turn[name] for turn in turns]) for name in refiners}
    result = {
        "shape": list(probabilities.shape[1:]),
        "agreement": round(float(np.mean(labels["crf"] == labels["library"])), 5),
        "changed_by_library": round(
            float(np.mean(labels["library"] != np.argmax(probabilities, -1))), 5
        ),
    }
    for name, values in seconds.items():
        wall, cpu = np.median(values, axis=0).round(4).tolist()
        result[name] = {"seconds": wall, "cpu_seconds": cpu}
        if name != "library":
            ratios = np.median(values / seconds["library"], axis=0).round(2).tolist()
            result[name] |= {"time_ratio": ratios[0], "cpu_ratio": ratios[1]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=pathlib.Path, help="folder with pictures")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--classes", type=int, default=27)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    examples = golden()
    if arguments.images:
        found = [p for p in sorted(arguments.images.rglob("*")) if p.suffix in (".jpg", ".png")]
        for path in found[:: max(1, len(found) // arguments.count)][: arguments.count]:
            examples[path.name] = made(path, arguments.size, arguments.classes)
    results = {name: compare(*example, arguments.repeats) for name, example in examples.items()}
    for number, found in enumerate(agreement_with_golden()):
        results[f"golden_{number}"] |= found
    print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg()[0]} | results, indent=2))


if __name__ == "__main__":
    main()
