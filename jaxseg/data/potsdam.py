"""ISPRS Potsdam: aerial images at 5 cm, in 6 classes or 3, cut into tiles of 200 x 200.

The release holds 38 images of 6000 x 6000, with labels as colours:

    root/4_Ortho_RGBIR/top_potsdam_<r>_<c>_RGBIR.tif           or 2_Ortho_RGB, 3_Ortho_IRRG
    root/5_Labels_for_participants/top_potsdam_<r>_<c>_label.tif          (24 of the images)

`prepare_potsdam` (of `potsdam_tiles`) halves and cuts them once into a folder of tiles, by default
root/tiles, which the sources here read; `data.root` may be either folder:

    tiles/images/<r>_<c>/<row>_<column>.png     RGBA whose fourth band is infrared, or RGB
    tiles/labels/<r>_<c>/<row>_<column>.png     0 to 5; 255 = no class
    tiles/unlabelled_train.txt, labelled_train.txt, labelled_test.txt     the split, a tile a line
    tiles/tiles.json                            bands, side and seed; written last

METHODS.md 1.2; the split is IIC's (Ji et al. 2019): 10 % of all tiles, drawn from the labelled
ones, are the test. Its draw was not published, so that ours, from a stated seed, has other tiles;
IIC's own tiles and lists (imgs/<n>.mat, gt/<n>.mat, *.txt) are taken over by `prepare_potsdam` too.
"""

import json
import os

from jaxseg.core import UserError
from jaxseg.data.encodings import Ids
from jaxseg.data.folder import Folder, checked
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
        a listed tile is missing; or what `open_folder` and `Folder` raise.
    """
    identity = Ids({value: value for value in range(6)} | {NO_CLASS: -1})
    return _open(root, split, channels, on_corrupt, NAMES6, identity)


def open_potsdam3(root: str, split: str, channels: int = 3, on_corrupt: str = "error") -> Folder:
    """Opens tiles of Potsdam; label "class" in [0, 2]. As `open_potsdam`."""
    return _open(root, split, channels, on_corrupt, NAMES3, Ids(SIX_TO_THREE | {NO_CLASS: -1}))


def _open(
    root: str, split: str, channels: int, on_corrupt: str, names: tuple[str, ...], ids: Ids
) -> Folder:
    parts = [p for s in split_parts(split, SPLITS, "Potsdam") for p in SPLITS[s]]
    top = _tile_folder(root)
    rule = _rule(top, channels)
    tiles = [tile for part in dict.fromkeys(parts) for tile in read_list(top, part)]
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
    top = os.path.abspath(os.path.expanduser(root))
    places = [top, os.path.join(top, "tiles")]
    found = [
        place for place in places if root and os.path.isfile(os.path.join(place, "tiles.json"))
    ]
    if not found:
        raise UserError(
            f"Potsdam: data.root {top if root else root!r} holds no finished tiles (no tiles.json "
            "in it, nor in its folder tiles). Cut the 6000 x 6000 images first, with "
            "jaxseg.data.potsdam_tiles.prepare_potsdam(root, out), and set data.root to `out`"
        )
    return found[0]


def _rule(top: str, channels: int) -> str:
    """Returns how the lists came about; raises UserError if the tiles lack infrared asked for."""
    with open(os.path.join(top, "tiles.json"), encoding="utf-8") as file:
        settings = json.load(file)
    bands = settings["bands"]
    if channels == 4 and bands != "RGBIR":
        raise UserError(
            f"data.channels is 4, but the tiles in {top} were cut from {bands} images; cut "
            "4_Ortho_RGBIR into tiles, or set data.channels = 3"
        )
    if settings["seed"] is None:
        return "IIC's tiles and lists"
    return (
        f"tiles of {settings['tile']} x {settings['tile']} of {settings['images']} images at half "
        "size; a tenth of all tiles, drawn from the labelled ones with the seed "
        f"{settings['seed']}, is the test"
    )


def read_list(top: str, name: str) -> list[str]:
    """Returns the tiles that a list of the folder names; raises UserError if it cannot be read."""
    path = os.path.join(top, f"{name}.txt")
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except OSError as error:
        raise UserError(
            f"Potsdam: cannot read the list {path}: {error.strerror}. Run prepare_potsdam again, "
            "which keeps the tiles that are there"
        ) from error


def _label(top: str, tile: str) -> str:
    path = os.path.join(top, "labels", f"{tile}.png")
    return path if os.path.isfile(path) else ""
