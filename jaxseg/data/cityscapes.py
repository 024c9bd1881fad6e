"""Cityscapes: street scenes of 50 cities, in 27 classes (unsupervised protocol) or 19.

Cordts et al. 2016. Layout, as leftImg8bit_trainvaltest, leftImg8bit_trainextra, gtFine_trainvaltest
and (optional) gtCoarse unpack into one folder:

    root/leftImg8bit/<split>/<city>/<city>_<n>_<n>_leftImg8bit.png       1024 x 2048
    root/gtFine/<split>/<city>/<city>_<n>_<n>_gtFine_labelIds.png        ids 0 to 33
    root/gtCoarse/train_extra/<city>/<city>_<n>_<n>_gtCoarse_labelIds.png

<split> is train, val, test or train_extra. The published test labels hold void alone. The frame
troisdorf_000000_000073 of train_extra is black in the release; it is kept, and counted below.
"""

from jaxseg.data.encodings import Ids
from jaxseg.data.folder import Folder
from jaxseg.data.layout import Part, open_parts, split_parts

# name, index among 27 classes, index among 19 (trainId), by id; -1 = ignored.
LABELS: dict[int, tuple[str, int, int]] = {
    0: ("unlabeled", -1, -1),
    1: ("ego vehicle", -1, -1),
    2: ("rectification border", -1, -1),
    3: ("out of roi", -1, -1),
    4: ("static", -1, -1),
    5: ("dynamic", -1, -1),
    6: ("ground", -1, -1),
    7: ("road", 0, 0),
    8: ("sidewalk", 1, 1),
    9: ("parking", 2, -1),
    10: ("rail track", 3, -1),
    11: ("building", 4, 2),
    12: ("wall", 5, 3),
    13: ("fence", 6, 4),
    14: ("guard rail", 7, -1),
    15: ("bridge", 8, -1),
    16: ("tunnel", 9, -1),
    17: ("pole", 10, 5),
    18: ("polegroup", 11, -1),
    19: ("traffic light", 12, 6),
    20: ("traffic sign", 13, 7),
    21: ("vegetation", 14, 8),
    22: ("terrain", 15, 9),
    23: ("sky", 16, 10),
    24: ("person", 17, 11),
    25: ("rider", 18, 12),
    26: ("car", 19, 13),
    27: ("truck", 20, 14),
    28: ("bus", 21, 15),
    29: ("caravan", 22, -1),
    30: ("trailer", 23, -1),
    31: ("train", 24, 16),
    32: ("motorcycle", 25, 17),
    33: ("bicycle", 26, 18),
}
NAMES27 = tuple(name for name, index, _ in LABELS.values() if index >= 0)
NAMES19 = tuple(name for name, _, index in LABELS.values() if index >= 0)
# The licence plate has id -1, which an 8-bit file may store as 255; all above 33 is void.
IDS27 = Ids({i: index for i, (_, index, _) in LABELS.items()} | dict.fromkeys(range(34, 256), -1))
IDS19 = Ids({i: index for i, (_, _, index) in LABELS.items()} | dict.fromkeys(range(34, 256), -1))

SPLITS = ("train", "val", "test", "train_extra")

# Cordts et al. 2016, table 2; METHODS.md 1.2 names 2,975, 500 and the unions 21,523 and 3,475.
_COUNTS = {
    "train": 2975,
    "val": 500,
    "test": 1525,
    "train_extra": 19998,
    "val+train": 3475,
    "test+train_extra": 21523,
}
EXPECTED: dict[str, dict[str, int]] = {"cityscapes27": _COUNTS, "cityscapes19": _COUNTS}

_LAYOUT = (
    "leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelIds.png, "
    "where <split> is train, val, test or train_extra: unpack leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip (and leftImg8bit_trainextra.zip) into one folder"
)


def open_cityscapes27(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens splits of Cityscapes with label "class" in [0, 26]: id - 7 for ids 7 to 33.

    `split` is one of `SPLITS` or several joined by "+": PiCIE trains on "test+train_extra" and is
    scored on "val+train". Images of test and train_extra need no labels: fine labels of test and
    coarse ones of train_extra are read where they are there. `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; folders, images, or labels of train or val are missing; or what
        `open_folder` and `Folder` raise.
    """
    return _open(root, split, on_corrupt, NAMES27, IDS27)


def open_cityscapes19(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens splits of Cityscapes with label "class" in [0, 18], the trainIds.

    As `open_cityscapes27`.
    """
    return _open(root, split, on_corrupt, NAMES19, IDS19)


def _open(root: str, split: str, on_corrupt: str, names: tuple[str, ...], ids: Ids) -> Folder:
    parts = [_part(name) for name in split_parts(split, SPLITS, "Cityscapes")]
    return open_parts("Cityscapes", root, parts, names, ids, _LAYOUT, on_corrupt)


def _part(split: str) -> Part:
    kind = "gtCoarse" if split == "train_extra" else "gtFine"
    return Part(
        images=f"leftImg8bit/{split}",
        labels=f"{kind}/{split}",
        endings=("_leftimg8bit.png",),
        label_ending=f"_{kind}_labelIds.png",
        needs_labels=split in ("train", "val"),
    )
