"""Segmenting with a trained run: images a second, and what tiles do to a large image.

python benchmarks/predict.py speed --model=WORKDIR --images=DIR
python benchmarks/predict.py mosaic --images=DIR --out=big.tif       # 10,000 x 10,000 pixels
python benchmarks/predict.py tiles --model=WORKDIR --images=big.tif

"speed" segments a folder of images, labels at their own size, files not written, after what is
compiled for the first of them. "mosaic" lays images side by side, in rows of 600 pixels. "tiles"
compares a part of 1400 x 1400 predicted whole with the same in tiles.
"""

import argparse
import pathlib
import time

import numpy as np
from PIL import Image

import jaxseg
from jaxseg.data.images import find_files, read_image

SIDE, ROW = 10_000, 600


def files(folder: str) -> list[str]:
    """Returns the images of a folder."""
    return [str(pathlib.Path(folder, name)) for name in find_files(folder)]


def speed(arguments: argparse.Namespace) -> None:
    """Prints images a second of the clock and of the processor."""
    segmenter = jaxseg.load(arguments.model)
    paths = files(arguments.images)
    for found in segmenter(paths[:5]):
        _ = found.labels
    clock, processor = time.perf_counter(), time.process_time()
    for found in segmenter.stream(paths):
        _ = found.labels
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    count = len(paths)
    print(f"{count} images: {count / clock:.1f} a second, {count / processor:.1f} a second of CPU")


def mosaic(arguments: argparse.Namespace) -> None:
    """Writes a large image made of small ones."""
    images = [read_image(path) for path in files(arguments.images)]
    large, number = np.zeros((SIDE, SIDE, 3), np.uint8), 0
    for y in range(0, SIDE, ROW):
        x = 0
        while x < SIDE:
            image = images[number % len(images)]
            image = np.pad(image, ((0, max(0, ROW - len(image))), (0, 0), (0, 0)), "reflect")
            place = large[y : y + ROW, x : x + image.shape[1]]
            place[:] = image[: place.shape[0], : place.shape[1]]
            x, number = x + image.shape[1], number + 1
    Image.fromarray(large).save(arguments.out, compression="tiff_adobe_deflate")


def tiles(arguments: argparse.Namespace) -> None:
    """Prints the share of pixels that have the same label whole and in tiles."""
    image = read_image(arguments.images)[3000:4400, 3000:4400]
    whole = jaxseg.load(arguments.model)(image).labels
    for side in (256, 512, 1024):
        found = jaxseg.load(arguments.model, tile=side)(image).labels
        print(f"tiles of {side}: {100 * (found == whole).mean():.1f} % of the labels are the same")


def main() -> None:
    """Runs the command line."""
    commands = {function.__name__: function for function in (speed, mosaic, tiles)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    for name in ("model", "images", "out"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    commands[arguments.command](arguments)


if __name__ == "__main__":
    main()
