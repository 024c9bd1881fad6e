"""ISPRS Potsdam: aerial images at 5 cm, in 6 classes or 3, cut into tiles of 200 x 200.

The release holds 38 images of 6000 x 6000, with labels as colours:

    root/4_Ortho_RGBIR/top_potsdam_<r>_<c>_RGBIR.tif           or 2_Ortho_RGB, 3_Ortho_IRRG
    root/5_Labels_for_participants/top_potsdam_<r>_<c>_label.tif          (24 of the images)

`python -m jaxseg.prepare tiles` halves and cuts them once into a folder of tiles, by default
root/tiles, which the sources here read; `data.root` may be either folder:

    tiles/images/<r>_<c>/<row>_<column>.png     RGBA whose fourth band is infrared, or RGB
    tiles/labels/<r>_<c>/<row>_<column>.png     0 to 5; 255 = no class
    tiles/unlabelled_train.txt, labelled_train.txt, labelled_test.txt     the split, a tile a line
    tiles/settings.json                         bands and side; written first
    tiles/tiles.json                            bands, side and seed; written last

METHODS.md 1.2; the split is IIC's (Ji et al. 2019): 10 % of all tiles, drawn from the labelled
ones, are the test. Its draw was not published, so that ours, from a stated seed, has other tiles;
IIC's own tiles and lists (imgs/<n>.mat, gt/<n>.mat, *.txt) are taken over by `prepare tiles` too.
"""

import collections
import json
import os
import re
from typing import Any

from jaxseg.core import UserError
from jaxseg.data.encodings import Ids
from jaxseg.data.folder import Folder, checked, few, is_folder, is_there
from jaxseg.data.images import find_files
from jaxseg.data.layout import split_parts

NAMES6 = (
    "impervious surface (roads)",
    "building",
    "low vegetation",
    "tree",
    "car",
    "clutter/background",
)
NAMES3 = ("roads+cars", "buildings+clutter", "vegetation+trees")
SIX_TO_THREE = {0: 0, 1: 1, 2: 2, 3: 2, 4: 0, 5: 1}
COLOURS6: dict[tuple[int, int, int], int] = {
    (255, 255, 255): 0,
    (0, 0, 255): 1,
    (0, 255, 255): 2,
    (0, 255, 0): 3,
    (255, 255, 0): 4,
    (255, 0, 0): 5,
    (0, 0, 0): -1,  # borders of objects, in the labels "noBoundary"
}
NO_CLASS = 255  # in the tiles

LISTS = ("unlabelled_train", "labelled_train", "labelled_test")
# What each split is made of. "train" is HSG's 7,695 tiles, "all" IIC's training set, and "labelled"
# what IIC matches and tests on.
SPLITS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in LISTS},
    "train": ("unlabelled_train", "labelled_train"),
    "val": ("labelled_test",),
    "test": ("labelled_test",),
    "labelled": ("labelled_train", "labelled_test"),
    "all": LISTS,
}

# A file of the release: its place, and what it holds.
FILE = re.compile(r"top_potsdam_(\d+_\d+)_(RGBIR|RGB|IRRG|label|label_noBoundary)\.tiff?$", re.I)
SETTINGS, FINISHED = "settings.json", "tiles.json"  # written before the tiles, and after them

# METHODS.md 1.2.
_COUNTS = {
    "unlabelled_train": 3150,
    "labelled_train": 4545,
    "labelled_test": 855,
    "train": 7695,
    "val": 855,
    "test": 855,
    "labelled": 5400,
    "all": 8550,
}
EXPECTED: dict[str, dict[str, int]] = {"potsdam": _COUNTS, "potsdam3": _COUNTS}


def open_potsdam(root: str, split: str, channels: int = 3, on_corrupt: str = "error") -> Folder:
    """Opens tiles of Potsdam; label "class" in [0, 5].

    Images are RGB, or RGB and infrared with channels=4. Splits are the keys of `SPLITS` (several
    may be joined by "+"); tiles without label have -1 everywhere, and a split without any label no
    classes. `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; `root` holds no tiles, or they lack infrared where it is asked for;
        the lists of the split are empty; a listed tile is missing; or what `open_folder` and
        `Folder` raise.
    """
    identity = Ids({value: value for value in range(6)} | {NO_CLASS: -1})
    return _open(root, split, channels, on_corrupt, NAMES6, identity)


def open_potsdam3(root: str, split: str, channels: int = 3, on_corrupt: str = "error") -> Folder:
    """Opens tiles of Potsdam; label "class" in [0, 2]. As `open_potsdam`."""
    return _open(root, split, channels, on_corrupt, NAMES3, Ids(SIX_TO_THREE | {NO_CLASS: -1}))


def _open(
    root: str, split: str, channels: int, on_corrupt: str, names: tuple[str, ...], ids: Ids
) -> Folder:
    parts = dict.fromkeys(p for s in split_parts(split, SPLITS, "Potsdam") for p in SPLITS[s])
    top = _tile_folder(root)
    rule = _rule(top, channels)
    tiles = [tile for part in parts for tile in read_list(top, part)]
    if not tiles:
        files = " and ".join(os.path.join(top, f"{part}.txt") for part in parts)
        raise UserError(
            f"Potsdam, split {split!r}: {files} name no tile. {_again(top)}; labels have to be "
            "there where labelled tiles are wanted"
        )
    labels = tuple(_label(top, tile) for tile in tiles)
    return checked(
        Folder(
            root=os.path.join(top, "images"),
            names=tuple(f"{tile}.png" for tile in tiles),
            labels=labels if any(labels) else (),
            classes={"class": names} if any(labels) else {},
            on_corrupt=on_corrupt,
            channels=channels,
            decode=ids,
            rule=rule,
        )
    )


def _tile_folder(root: str) -> str:
    """Returns the folder of finished tiles: `root` or the folder "tiles" in it."""
    top = os.path.abspath(os.path.expanduser(root)) if root else ""
    places = [top, os.path.join(top, "tiles")] if root else []
    for place in places:
        if is_there(os.path.join(place, FINISHED)):
            return place
    raise UserError(
        f"Potsdam: data.root {top!r} holds no finished tiles (no {FINISHED} in it, nor in its "
        f"folder tiles). {_found(top, places)}"
    )


def _found(top: str, places: list[str]) -> str:
    """Says what is there in the place of finished tiles, and what to do with it."""
    command = f"python -m jaxseg.prepare tiles --root={top or 'DIR'}"
    for place in places:
        if is_there(os.path.join(place, SETTINGS)):
            return (
                f"The tiles in {place} were begun: give the command again that did so (python -m "
                f"jaxseg.prepare tiles --root=DIR --out={place}), which goes on"
            )
    if top and is_archive(top):
        return f"There are IIC's tiles (imgs, gt). Take them over, once: {command}"
    files = find_files(top, (".tif", ".tiff", ".zip")) if top and is_folder(top) else []
    kinds = collections.Counter(match[2] for name in files if (match := FILE.search(name)))
    if kinds:
        listing = ", ".join(f"{count} *_{kind}.tif" for kind, count in sorted(kinds.items()))
        return f"There is the release, not cut yet ({listing}). Cut it into tiles, once: {command}"
    packed = [name for name in files if name.endswith(".zip")]
    archives = f" There are archives ({few(packed)}): unpack them." if packed else ""
    return (
        f"Nor are there images top_potsdam_<r>_<c>_RGBIR.tif to cut.{archives} Give the folder of "
        f"the release, and cut it into tiles, once: {command}"
    )


def is_archive(top: str) -> bool:
    """Tells whether a folder holds IIC's tiles."""
    return is_folder(os.path.join(top, "imgs")) and is_folder(os.path.join(top, "gt"))


def _rule(top: str, channels: int) -> str:
    """Returns how the lists came about; raises UserError if the tiles lack infrared asked for."""
    settings = read_settings(os.path.join(top, FINISHED))
    bands = settings.get("bands")
    if channels == 4 and bands != "RGBIR":
        raise UserError(
            f"data.channels is 4, but the tiles in {top} were cut from {bands} images; cut "
            "4_Ortho_RGBIR into tiles, or set data.channels = 3"
        )
    if settings.get("seed") is None:
        return f"the lists of tiles are {settings.get('lists', 'given')}"
    return (
        f"tiles of {settings['tile']} x {settings['tile']} of {settings['images']} images at half "
        "size; a tenth of all tiles, drawn from the labelled ones with the seed "
        f"{settings['seed']}, is the test"
    )


def read_settings(path: str) -> dict[str, Any]:
    """Returns what a JSON file of the tiles' folder says; raises UserError if it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        if isinstance(settings, dict):
            return settings
        found = f"it holds {settings!r}"
    except OSError as error:
        found = error.strerror or str(error)
    except ValueError as error:  # JSON and UTF-8 errors
        found = str(error)
    raise UserError(
        f"Potsdam: cannot read {path}: {found}. Remove its folder, and cut the tiles again "
        "(python -m jaxseg.prepare tiles)"
    )


def read_list(top: str, name: str, remedy: str = "") -> list[str]:
    """Returns the tiles that a list of the folder names; raises UserError if it cannot be read."""
    path = os.path.join(top, f"{name}.txt")
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Potsdam: cannot read the list {path}: {reason}. {remedy or _again(top)}"
        ) from error


def _again(top: str) -> str:
    return (
        f"Give the command again that wrote {top} (python -m jaxseg.prepare tiles), which keeps "
        "the tiles that are there"
    )


def _label(top: str, tile: str) -> str:
    path = os.path.join(top, "labels", f"{tile}.png")
    return path if is_there(path) else ""
