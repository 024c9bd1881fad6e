"""Cutting Potsdam's images of 6000 x 6000 into the tiles that `potsdam` reads, once.

As IIC's preparation does it: halved with OpenCV (INTER_LINEAR, which at one half is the mean of
2 x 2 pixels; labels INTER_NEAREST, the pixel at even places), then cut into 15 x 15 tiles.
"""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping

import cv2
import numpy as np
import scipy.io
from absl import logging
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.disk import require_room, writing
from jaxseg.data.encodings import Colours
from jaxseg.data.folder import require_folder
from jaxseg.data.images import Unreadable, check_header, find_files, read_image
from jaxseg.data.potsdam import (
    COLOURS6,
    FILE,
    FINISHED,
    LISTS,
    NO_CLASS,
    SETTINGS,
    is_archive,
    read_list,
    read_settings,
)
from jaxseg.data.potsdam_lists import draw_lists, read_given, require_tiles

BANDS = {"RGBIR": 4, "RGB": 3, "IRRG": 3}  # channels, the preferred first

# The 24 images whose labels were given to participants. Labels of the other 14 came out later; to
# all of the papers these are unlabelled.
LABELLED = frozenset(
    [f"{row}_{column}" for row in (2, 3, 4, 5) for column in (10, 11, 12)]
    + [f"{row}_{column}" for row in (6, 7) for column in range(7, 13)]
)
IMAGES = 38

Report = Callable[[int, int], None]


def prepare_potsdam(
    root: str,
    out: str = "",
    bands: str = "",
    tile: int = 200,
    seed: int = 0,
    lists: str = "",
    threads: int = 2,
    report: Report = lambda done, total: None,
) -> dict[str, int]:
    """Cuts the release (or takes over IIC's tiles) into a folder of tiles; see `potsdam`.

    An image's tiles appear together, so that a run that was stopped goes on where it was; a
    finished folder is left as it is, but for its lists, which follow `seed`.

    Args:
      root: folder of the release, searched with its sub-folders; or of IIC's tiles (imgs/*.mat).
      out: where the tiles go; "" = root/tiles. About 1 GB for RGBIR.
      bands: "RGBIR", "RGB" or "IRRG"; "" = the first of these that is there.
      tile: side of a tile in pixels of the halved image.
      seed: of the draw of test tiles. IIC's tiles keep IIC's lists.
      lists: folder of lists of tiles as a folder of tiles has them (unlabelled_train.txt and so on,
        "2_10/00_01" a line), which are taken in the place of a draw; "" = draw.
      threads: images cut at a time; each takes about 0.8 GB of memory.
      report: called with (images done, images in all).

    Returns:
      The number of tiles by list: unlabelled_train, labelled_train, labelled_test.

    Raises:
      UserError: no image, or none of the asked bands; an image that is damaged or whose sides two
        tiles do not divide; a label of another size or with an unknown colour; `out` holds tiles of
        other settings, cannot be written or has too little room; a list that is missing, or names a
        tile that is not there or twice, or as labelled one that is not.
    """
    top = os.path.abspath(os.path.expanduser(root))
    out = os.path.abspath(os.path.expanduser(out)) if out else os.path.join(top, "tiles")
    given = read_given(lists) if lists else {}
    archived = is_archive(top)
    plan = _plan_archived(top, tile) if archived else _plan_release(top, bands, tile, out)
    with writing(pathlib.Path(out), "--out", "the images that are cut are kept"):
        _claim(out, plan.settings)
        _cut_all(plan, out, threads, report)
        if given:
            require_tiles(out, given)
            found, origin = given, "given"
        elif archived:
            found = {name: [f"all/{number}" for number in read_list(top, name)] for name in LISTS}
            origin = "IIC's"
        else:
            found, origin = draw_lists(out, sorted(plan.jobs), seed), "drawn"
        kept = {"lists": origin, "seed": seed if origin == "drawn" else None}
        _finish(out, found, plan.settings | kept | {"images": len(plan.jobs)})
    return {name: len(tiles) for name, tiles in found.items()}


Tile = tuple[str, np.ndarray, np.ndarray | None]  # name, image u8[t t Ch], label u8[t t]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is to be cut: by the folder that an image's tiles get, what yields them.

    `sizes` are the bytes of the tiles as pixels: as PNGs, labels too, they take less.
    """

    settings: dict[str, object]
    jobs: Mapping[str, Callable[[], Iterator[Tile]]]
    labelled: frozenset[str]
    sizes: dict[str, int]


def _plan_release(top: str, bands: str, tile: int, out: str) -> _Plan:
    images, labels, bands = _find_images(top, bands, out)
    channels = BANDS[bands]
    jobs, sizes = {}, {}
    for name, path in images.items():
        jobs[name] = functools.partial(_cut, path, labels.get(name, ""), channels, tile)
        height, width = check_header(path)
        sizes[name] = height * width // 4 * channels
    settings = {"bands": bands, "tile": tile, "source": "release"}
    return _Plan(settings, jobs, frozenset(labels), sizes)


def _plan_archived(top: str, tile: int) -> _Plan:
    count = len(find_files(os.path.join(top, "imgs"), (".mat",)))
    settings = {"bands": "RGBIR", "tile": tile, "source": "IIC's tiles"}
    jobs = {"all": functools.partial(_archived_tiles, top, tile)}
    return _Plan(settings, jobs, frozenset({"all"}), {"all": count * 4 * tile**2})


def _cut_all(plan: _Plan, out: str, threads: int, report: Report) -> None:
    """Does what is left of the plan, if there is room; the first failure stops the others."""
    left = [name for name in plan.jobs if not os.path.isdir(os.path.join(out, "images", name))]
    require_room(pathlib.Path(out), sum(plan.sizes[name] for name in left), "--out")
    with concurrent.futures.ThreadPoolExecutor(max(1, threads)) as pool:
        waiting = [
            pool.submit(_write_tiles, out, name, name in plan.labelled, job)
            for name, job in plan.jobs.items()
        ]
        try:
            for done, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                future.result()
                report(done, len(waiting))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _finish(out: str, lists: dict[str, list[str]], settings: dict[str, object]) -> None:
    """Writes the lists, and last what says that all is there."""
    finish = os.path.join(out, FINISHED)
    if os.path.exists(finish):
        os.remove(finish)  # a run that stops between two lists must not leave those of two draws
    for name, tiles in lists.items():
        _write(os.path.join(out, f"{name}.txt"), "".join(f"{one}\n" for one in tiles))
    _write(finish, json.dumps(settings, indent=2) + "\n")


def _find_images(top: str, bands: str, out: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Returns image and label files by place ("2_10"), and the bands."""
    require_folder(top, "--root")
    leave = (out,) if os.path.isdir(out) else ()
    found: dict[str, dict[str, str]] = {}
    for name in find_files(top, (".tif", ".tiff"), leave):
        if match := FILE.search(name):
            found.setdefault(match[2].lower(), {}).setdefault(match[1], os.path.join(top, name))
    there = [kind for kind in BANDS if kind.lower() in found]
    if not there or (bands and bands not in there):
        raise UserError(
            f"Potsdam: no {bands or ' or '.join(BANDS)} images under {top}"
            f"{' (there are ' + ', '.join(there) + ')' if there else ''}. Expected "
            "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif and so on: unpack 4_Ortho_RGBIR.zip (or "
            "2_Ortho_RGB.zip) and 5_Labels_for_participants.zip there"
        )
    labels = found.get("label_noboundary", {}) | found.get("label", {})
    labels = {place: path for place, path in labels.items() if place in LABELLED}
    bands = bands or there[0]
    images = found[bands.lower()]
    counts = len(images), len(labels.keys() & images.keys())
    if counts != (IMAGES, len(LABELLED)):
        logging.warning(
            "Potsdam: %d images under %s, %d of them with labels; the release has %d and %d",
            counts[0], top, counts[1], IMAGES, len(LABELLED),
        )  # fmt: skip
    return images, labels, bands


def _cut(image_path: str, label_path: str, channels: int, tile: int) -> Iterator[Tile]:
    """Yields the tiles of one image of the release."""
    image = read_image(image_path, channels)
    height, width = image.shape[:2]
    if height % (2 * tile) or width % (2 * tile):
        raise UserError(
            f"{image_path} is {height} x {width}; expected sides that are multiples of "
            f"{2 * tile}, such as 6000 x 6000. Take the image as published"
        )
    label = None
    if label_path:
        label = Colours(COLOURS6)(label_path)
        if label.shape != (height, width):
            raise UserError(
                f"label {label_path} is {label.shape[0]} x {label.shape[1]} and its image "
                f"{image_path} is {height} x {width}; expected one size"
            )
        label = np.where(label < 0, NO_CLASS, label).astype(np.uint8)
        label = cv2.resize(label, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
    for row in range(image.shape[0] // tile):
        for column in range(image.shape[1] // tile):
            place = np.s_[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            yield f"{row:02}_{column:02}", image[place], None if label is None else label[place]


def _archived_tiles(top: str, tile: int) -> Iterator[Tile]:
    """Yields IIC's tiles, under their numbers."""
    names = find_files(os.path.join(top, "imgs"), (".mat",))
    labelled = set(find_files(os.path.join(top, "gt"), (".mat",)))
    for name in names:
        image = _read_mat(os.path.join(top, "imgs", name), "img", (tile, tile, 4))
        label = None
        if name in labelled:
            label = _read_mat(os.path.join(top, "gt", name), "gt", (tile, tile)).astype(np.uint8)
        yield os.path.splitext(name)[0], image, label


def _read_mat(path: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.asarray(scipy.io.loadmat(path)[key])
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise Unreadable(f"cannot read {key!r} of {path}: {error}") from error
    if array.shape != shape:
        raise UserError(f"{path} holds {key!r} of shape {array.shape}; expected {shape}")
    return array


def _claim(out: str, settings: dict[str, object]) -> None:
    """Makes the folder of tiles, or checks that it was begun with the same settings."""
    path = os.path.join(out, SETTINGS)
    if not os.path.exists(path):
        os.makedirs(out, exist_ok=True)
        _write(path, json.dumps(settings, indent=2) + "\n")
        return
    stored = read_settings(path)
    if stored != settings:
        raise UserError(
            f"{out} holds tiles made with {stored}, not with {settings}. Give another folder, or "
            "remove this one"
        )


def _write_tiles(out: str, name: str, labelled: bool, tiles: Callable[[], Iterable[Tile]]) -> None:
    """Writes the tiles of one image, unless they are there, with labels if there are any now."""
    final = {kind: os.path.join(out, kind, name) for kind in ("labels", "images")}
    without = labelled and not (os.path.isdir(final["labels"]) and os.listdir(final["labels"]))
    if os.path.isdir(final["images"]) and not without:
        return
    begun = {kind: os.path.join(out, f".{kind}-{name}") for kind in final}
    for kind in final:
        shutil.rmtree(begun[kind], ignore_errors=True)
        shutil.rmtree(final[kind], ignore_errors=True)
        os.makedirs(begun[kind])
        os.makedirs(os.path.dirname(final[kind]), exist_ok=True)
    for place, image, label in tiles():
        Image.fromarray(image).save(os.path.join(begun["images"], f"{place}.png"), compress_level=4)
        if label is not None:
            Image.fromarray(label).save(os.path.join(begun["labels"], f"{place}.png"))
    # The images come last: a folder of images means that the labels are there.
    for kind in final:
        os.replace(begun[kind], final[kind])


def _write(path: str, text: str) -> None:
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.tmp", path)
