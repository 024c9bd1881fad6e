"""The split of Potsdam's tiles: drawn as IIC drew it, or as given lists state it."""

import collections
import os

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.folder import few
from jaxseg.data.images import find_files
from jaxseg.data.potsdam import LISTS, read_list

_TEST_SHARE = 0.1  # of all tiles


def draw_lists(out: str, places: list[str], seed: int) -> dict[str, list[str]]:
    """Returns the split: a tenth of all tiles, drawn from the labelled ones, is the test."""
    tiles = [
        f"{place}/{name.removesuffix('.png')}"
        for place in places
        for name in find_files(os.path.join(out, "images", place), (".png",))
    ]
    labelled = [one for one in tiles if _has(out, "labels", one)]
    count = min(int(len(tiles) * _TEST_SHARE), len(labelled))
    drawn = np.random.default_rng(seed).permutation(len(labelled))[:count]
    test = {labelled[index] for index in drawn}
    known = set(labelled)
    return {
        "unlabelled_train": [one for one in tiles if one not in known],
        "labelled_train": [one for one in labelled if one not in test],
        "labelled_test": [one for one in labelled if one in test],
    }


def read_given(folder: str) -> dict[str, list[str]]:
    """Returns the split that the lists of a folder state.

    Raises UserError if one cannot be read, or a tile is named twice.
    """
    top = os.path.abspath(os.path.expanduser(folder))
    remedy = "--lists: expected the tiles of this list there, such as 2_10/00_01, a line each"
    lists = {name: read_list(top, name, remedy) for name in LISTS}
    counts = collections.Counter(tile for tiles in lists.values() for tile in tiles)
    if twice := [tile for tile, count in counts.items() if count > 1]:
        raise UserError(f"--lists: the lists in {top} name tiles twice: {few(twice)}. Correct them")
    return lists


def require_tiles(out: str, lists: dict[str, list[str]]) -> None:
    """Raises UserError where lists name tiles that are not there, or as labelled without label."""
    for name, tiles in lists.items():
        kinds = ("images",) if name == "unlabelled_train" else ("images", "labels")
        missing = [f"{k}/{tile}.png" for tile in tiles for k in kinds if not _has(out, k, tile)]
        if missing:
            raise UserError(
                f"--lists: {name}.txt names {len(missing)} files that are not in {out}: "
                f"{few(missing)}. Correct the list, or unpack the images and labels that are "
                "missing and give the command again"
            )


def _has(out: str, kind: str, tile: str) -> bool:
    return os.path.isfile(os.path.join(out, kind, f"{tile}.png"))
