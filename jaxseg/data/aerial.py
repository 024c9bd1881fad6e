"""Aerial images: ISPRS Vaihingen, crops of Potsdam, LoveDA and the Dubai tiles.

Each has its official layout, and one of crops or samples: root/images/* with root/labels/*.png
(split "all"), or, as mmsegmentation's converters write ISPRS sets, root/img_dir/<split>/*.png with
root/ann_dir/<split>/*.png; these hold 0 = border (ignored) and 1 to 6. Potsdam's own layout is that
of `potsdam`.

    vaihingen   root/top/top_mosaic_09cm_area<n>.tif                   infrared, red, green
                root/gts_for_participants/top_mosaic_09cm_area<n>.tif  classes as colours
                root/gts_complete/top_mosaic_09cm_area<n>.tif          (optional: labels of "test")
    loveda      root/<Train|Val|Test>/<Rural|Urban>/images_png/<id>.png
                root/<Train|Val>/<Rural|Urban>/masks_png/<id>.png      0 = no data, 1 to 7
    dubai       root/Tile <n>/images/<name>.jpg
                root/Tile <n>/masks/<name>.png                         classes as colours
                or root/images/tile<n>_<m>.jpg and root/labels/tile<n>_<m>.png, 0 to 4; 5, 6 void
"""

import functools
import os
import re
from collections.abc import Callable

import numpy as np

from jaxseg.data.encodings import Colours, Ids
from jaxseg.data.folder import Folder
from jaxseg.data.labelled import list_folder
from jaxseg.data.layout import Part, has_folder, open_parts, split_parts
from jaxseg.data.potsdam import COLOURS6, NAMES6

LOVEDA_NAMES = ("background", "building", "road", "water", "barren", "forest", "agricultural")
DUBAI_NAMES = ("water", "land", "road", "building", "vegetation")
# As in the published masks (the classes.json of the release lists other colours). Grey is
# "unlabeled"; black occurs in the masks, but in no list.
DUBAI_COLOURS: dict[tuple[int, int, int], int] = {
    (226, 169, 41): 0,
    (132, 41, 246): 1,
    (110, 193, 228): 2,
    (60, 16, 152): 3,
    (254, 221, 58): 4,
    (155, 155, 155): -1,
    (0, 0, 0): -1,
}
_FROM_ONE = {0: -1, 255: -1} | {value: value - 1 for value in range(1, 7)}

# The areas of Vaihingen whose labels were given to participants; the others are the test.
VAIHINGEN_TRAIN = (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)

# Vaihingen: the benchmark's areas; LoveDA: Wang et al. 2021; Dubai: 8 tiles of 9 images, our split.
EXPECTED: dict[str, dict[str, int]] = {
    "vaihingen": {"train": 16, "test": 17},
    "loveda": {"train": 2522, "val": 1669, "test": 1796},
    "dubai": {"train": 36, "val": 36},
    "potsdam_crops": {},  # as many as the converter was told to cut
}

_CROPS = (
    "images/* and labels/*.png (split 'all'), or img_dir/<split>/*.png and ann_dir/<split>/*.png"
)


def open_vaihingen(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens Vaihingen; label "class" in [0, 5], as Potsdam's; channels: infrared, red, green.

    Splits: "train" and "test" of the benchmark (labels of "test" need root/gts_complete); of crops
    "train" and "val"; of samples "all". `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; folders, images or labels are missing; or what `open_folder` and
        `Folder` raise.
    """
    if not has_folder(root, "top"):
        return _open_crops("Vaihingen", root, split, on_corrupt, f"{_CROPS}; or {_VAIHINGEN}")
    complete = has_folder(root, "gts_complete")
    parts = [
        Part(
            "top",
            "gts_complete" if complete else "gts_for_participants",
            endings=(".tif",),
            label_ending=".tif",
            needs_labels=name == "train",
            select=functools.partial(_areas, name == "train"),
        )
        for name in split_parts(split, ("train", "test"), "Vaihingen")
    ]
    decode = Colours(COLOURS6)
    return open_parts("Vaihingen", root, parts, NAMES6, decode, _VAIHINGEN, on_corrupt)


_VAIHINGEN = (
    "top/top_mosaic_09cm_area<n>.tif and gts_for_participants/top_mosaic_09cm_area<n>.tif, as "
    "ISPRS_semantic_labeling_Vaihingen.zip unpacks"
)


def _areas(train: bool, names: list[str]) -> list[str]:
    """Returns the areas of the training split, or the others."""
    found = [(name, re.search(r"_area(\d+)\.", name)) for name in names]
    return [n for n, match in found if match and (int(match[1]) in VAIHINGEN_TRAIN) == train]


def open_potsdam_crops(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens crops of Potsdam in mmsegmentation's encoding; label "class" in [0, 5].

    Splits: "train" and "val" of img_dir, or "all" of images. As `open_vaihingen`.
    """
    return _open_crops("Potsdam crops", root, split, on_corrupt, _CROPS)


def _open_crops(data_set: str, root: str, split: str, on_corrupt: str, layout: str) -> Folder:
    parts = [
        Part("images", "labels") if name == "all" else Part(f"img_dir/{name}", f"ann_dir/{name}")
        for name in split_parts(split, ("train", "val", "test", "all"), data_set)
    ]
    return open_parts(data_set, root, parts, NAMES6, Ids(_FROM_ONE), layout, on_corrupt)


def open_loveda(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens LoveDA, rural and urban scenes; label "class" in [0, 6], 0 (no data) -> -1.

    Splits: "train", "val" and "test" (without labels), or "all" of images and labels.
    `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; folders, images or masks are missing; or what `open_folder` and
        `Folder` raise.
    """
    layout = (
        "<Train|Val|Test>/<Rural|Urban>/images_png/*.png and masks_png/*.png beside images_png, as "
        "Train.zip, Val.zip and Test.zip unpack; or images/* and labels/*.png (split 'all')"
    )
    parts: list[Part] = []
    for name in split_parts(split, ("train", "val", "test", "all"), "LoveDA"):
        if name == "all":
            parts.append(Part("images", "labels"))
            continue
        for scene in ("Rural", "Urban"):
            folder = f"{name.capitalize()}/{scene}"
            masks = "" if name == "test" else f"{folder}/masks_png"
            parts.append(Part(f"{folder}/images_png", masks, endings=(".png",)))
    decode = Ids({0: -1} | {value: value - 1 for value in range(1, 8)})
    return open_parts("LoveDA", root, parts, LOVEDA_NAMES, decode, layout, on_corrupt)


def open_dubai(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens the Dubai tiles; label "class" in [0, 4].

    The set has no splits; ours: tiles 1 to 4 are "train", those from 5 on "val". The images of a
    tile are adjacent, so none may be in both. `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; folders, images or masks are missing; or what `open_folder` and
        `Folder` raise.
    """
    layout = "Tile <n>/images/*.jpg and Tile <n>/masks/*.png; or images/tile<n>_*.jpg and labels/"
    names = split_parts(split, ("train", "val"), "Dubai")
    decode: Callable[[str], np.ndarray]
    if has_folder(root, "images"):
        selections = [functools.partial(_tiles, name == "train") for name in names]
        parts = [Part("images", "labels", select=select) for select in selections]
        decode = Ids({value: value for value in range(5)} | {5: -1, 6: -1})
    else:
        folders = list_folder(os.path.expanduser(root))
        tiles = [name for name in sorted(folders) if re.fullmatch(r"Tile \d+", name)]
        parts = [
            Part(f"{tile}/images", f"{tile}/masks")
            for name in names
            for tile in tiles
            if (int(tile.split()[1]) <= 4) == (name == "train")
        ] or [Part("Tile 1/images" if "train" in names else "Tile 5/images")]
        decode = Colours(DUBAI_COLOURS)
    return open_parts("Dubai", root, parts, DUBAI_NAMES, decode, layout, on_corrupt)


def _tiles(train: bool, names: list[str]) -> list[str]:
    """Returns the images of the training tiles, or the others."""
    found = [(name, re.search(r"tile(\d+)_", name)) for name in names]
    return [name for name, match in found if match and (int(match[1]) <= 4) == train]
