"""COCO 2017 images, alone or with the COCO-Stuff maps in 182, 171, 27, 15 or 3 classes.

Lin et al. 2014, Caesar et al. 2018; the class merges and lists of METHODS 1.1 and 1.2. Layout, that
of the official archives train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip:

    root/train2017/<id>.jpg                   118,287 images
    root/val2017/<id>.jpg                     5,000 images
    root/stuffthingmaps/train2017/<id>.png    8-bit, COCO category id - 1; 255 = unlabelled
    root/stuffthingmaps/val2017/<id>.png

The fields `images` and `labels` name other places, as images="images/{split}2017" and
labels="annotations/{split}2017". Opening lists the folders and decodes nothing, but for the first
time with a curated list: that reads every label of the split once (about 2 ms each on one core).
"""

import dataclasses
import functools
import os

import numpy as np
from absl import logging

from jaxseg.core import UserError
from jaxseg.data.coco_classes import (
    CLASSES,
    FINE_TO_COARSE,
    GROUND,
    OUTSIDE,
    PLANT,
    SKY,
    STUFF,
    TABLES,
)
from jaxseg.data.curate import chosen, key_of
from jaxseg.data.folder import is_there, mirrored, select
from jaxseg.data.images import find_files, read_label
from jaxseg.data.labelled import Labelled, checked, open_root, split_parts

IMAGES = {"train": 118_287, "val": 5_000}  # files in the official archives
_BOTH = sum(IMAGES.values())

# The curated lists (METHODS 1.2): the superclasses that must cover three quarters of an image.
CURATED = {"curated7": STUFF, "few6": (SKY, PLANT, GROUND)}
SHORTEST = 360  # pixels of the shorter side that the curated lists ask for

# Published lengths of the lists over the official images; none is known for few6.
CURATED_COUNTS = {"curated7": {"train": 49_629, "val": 2_175}}

# Images of each source, opened with the defaults of its fields, as METHODS 1.2 states them.
_CURATED = {"train": 49_629, "val": 2_175, "train+val": 51_804}
EXPECTED: dict[str, dict[str, int]] = {
    "coco": {**IMAGES, "train+val": _BOTH},
    "cocostuff182": {**IMAGES, "train+val": _BOTH},
    "cocostuff171": {**IMAGES, "train+val": _BOTH},
    "cocostuff27": _CURATED,
    "cocostuff15": _CURATED,
    "cocostuff3": {},
}

IMAGES_REMEDY = (
    "Unpack train2017.zip and val2017.zip from http://images.cocodataset.org/zips/ in data.root, "
    "or name another place in data.images"
)
_REMEDY = (
    f"{IMAGES_REMEDY}; unpack stuffthingmaps_trainval2017.zip (from the page of COCO-Stuff, "
    "github.com/nightrome/cocostuff) in data.root/stuffthingmaps, or name another place in "
    "data.labels"
)


@dataclasses.dataclass(frozen=True)
class StuffReader:
    """Reads stuffthingmaps PNGs through a table of `coco_classes`.

    Raises UserError for a value other than 0 to 181 and 255, besides what `read_label` raises.
    """

    paths: tuple[str, ...]
    classes: str  # a key of TABLES

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        path = self.paths[index]
        stored = read_label(path)
        label = TABLES[self.classes].take(stored)
        if label.min() == OUTSIDE:
            wrong = label == OUTSIDE
            raise UserError(
                f"label {path} holds values other than 0 to 181 and 255 (such as "
                f"{int(stored[wrong][0])}, in {int(wrong.sum())} pixels in all); expected "
                "stuffthingmaps, COCO category ids - 1. Label maps of COCO-Stuff 10k or of "
                "panoptic COCO are of another kind: take stuffthingmaps_trainval2017.zip"
            )
        return {"class": label}


def open_coco(
    root: str,
    split: str,
    images: str = "{split}2017",
    on_corrupt: str = "error",
    check: str = "none",
) -> Labelled:
    """Opens COCO images without labels (HSG trains on "train", METHODS 1.2).

    Args:
      root: folder of the data set.
      split: "train", "val", "train+val", or any for which `images` is a folder ("unlabeled").
      images: folder of the images below `root`; "{split}" stands for the split.
      on_corrupt: "error" or "skip", as in `open_folder`.
      check: "headers" or "none": look for damaged files at the start; see `labelled.checked`.

    Raises UserError: a folder is missing or empty, or what `Labelled` raises.
    """
    parts = split_parts(split)
    folders = [images.replace("{split}", part) for part in parts]
    places = dict.fromkeys(folders, "<id>.jpg")
    top = open_root("coco", root, split, places, IMAGES_REMEDY)
    names = tuple(name for folder in folders for name in _images(top, folder))
    return checked(Labelled(top, names, (), {}, on_corrupt=on_corrupt), check)


def open_cocostuff(
    classes: str,
    root: str,
    split: str,
    train_list: str = "all",
    val_list: str = "all",
    images: str = "{split}2017",
    labels: str = "stuffthingmaps/{split}2017",
    lists_dir: str = "jaxseg-lists",
    on_corrupt: str = "error",
    check: str = "none",
) -> Labelled:
    """Opens COCO-Stuff; label "class" in [0, classes), everything else -1.

    Lists of images, for the splits "train" and "val":
      "all": every image.
      "curated7": version 7 of IIC's curation, for 15 and 27 classes: an image is kept if both sides
        have at least 360 pixels and at least 75 % of all its pixels, unlabelled ones counted, are
        of the 15 superclasses of stuff. Published counts: 49,629 and 2,175.
      "few6": the same with sky, plant and ground, for 3 classes. That the 360 pixels hold for it
        too is assumed (METHODS 1.2).
      anything else: a text file of image ids, one a line, such as the lists of the IIC and STEGO
        releases; below `root`, "{split}" stands for the split.
    STEGO and SmooSeg train 27 classes on an un-numbered list that only their data archive holds; to
    use it, name its file in `train_list`. The default there is "curated7".

    Args:
      classes: "182", "171" (without the 11 ids that no pixel has), "27", "15" or "3".
      root: folder of the data set.
      split: "train", "val", or "train+val" (IIC trains, matches and tests on both, METHODS 1.2).
      train_list: list of the training images.
      val_list: list of the validation images.
      images: folder of the images below `root`; "{split}" stands for the split.
      labels: folder of the label PNGs, likewise.
      lists_dir: folder below `root`, or an absolute path, that keeps the computed lists.
      on_corrupt: "error" or "skip", as in `open_folder`.
      check: "headers" or "none": look for damaged files at the start; see `labelled.checked`.

    Raises:
      UserError: a folder or list is missing or empty, an image has no label, a list cannot be kept,
        or what `Labelled` and `StuffReader` raise.
    """
    lists = {"train": train_list, "val": val_list}
    parts = split_parts(split)
    data_set = f"cocostuff{classes}"
    if unknown := [part for part in parts if part not in lists]:
        raise UserError(f"{data_set}: the split {unknown[0]!r}; expected train, val or train+val")
    places = {
        field.replace("{split}", part): what
        for part in parts
        for field, what in ((images, "<id>.jpg"), (labels, "<id>.png"))
    }
    top = open_root(data_set, root, split, places, _REMEDY)
    names: list[str] = []
    paths: list[str] = []
    rules: list[str] = []
    for part in parts:
        folder, label_folder = (field.replace("{split}", part) for field in (images, labels))
        found, labelled, rule = _listed(top, folder, label_folder, part, lists[part], lists_dir)
        names += found
        paths += labelled
        rules.append(rule)
    source = Labelled(
        top,
        tuple(names),
        tuple(paths),
        {"class": CLASSES[classes]},
        on_corrupt=on_corrupt,
        reader=StuffReader(tuple(paths), classes),
        rule="; ".join(rules),
    )
    return checked(source, check)


open_cocostuff182 = functools.partial(open_cocostuff, "182")
open_cocostuff171 = functools.partial(open_cocostuff, "171")
open_cocostuff27 = functools.partial(
    open_cocostuff, "27", train_list="curated7", val_list="curated7"
)
open_cocostuff15 = functools.partial(
    open_cocostuff, "15", train_list="curated7", val_list="curated7"
)
open_cocostuff3 = functools.partial(open_cocostuff, "3", train_list="few6", val_list="few6")


def _images(top: str, folder: str) -> list[str]:
    """Returns the images of a folder below `top`, as paths below `top`, sorted."""
    found = find_files(os.path.join(top, folder), (".jpg", ".jpeg", ".png"))
    if not found:
        raise UserError(
            f"no images in {os.path.join(top, folder)}: expected files <id>.jpg. {IMAGES_REMEDY}"
        )
    return [f"{folder}/{name}" for name in found]


def _listed(
    top: str, folder: str, label_folder: str, part: str, wanted: str, lists_dir: str
) -> tuple[list[str], tuple[str, ...], str]:
    """Returns the images of a part that its list asks for, their label files, and its rule."""
    field = f"data.{part}_list"
    names = tuple(name.removeprefix(f"{folder}/") for name in _images(top, folder))
    total, how = len(names), "every image"
    label_root = os.path.join(top, label_folder)
    if wanted != "all" and wanted not in CURATED:
        path = os.path.join(top, wanted.replace("{split}", part))
        if not is_there(path):
            raise UserError(
                f"{field} is {wanted!r}, and there is no list file {path}; expected all, "
                f"{', '.join(CURATED)} or a text file of image ids, one a line"
            )
        names = select(names, path, os.path.join(top, folder), field)
        how = f"the list {wanted}"
    paths = mirrored(names, label_root, field)
    if wanted in CURATED:
        kept = curated(wanted, part, names, paths, os.path.join(top, lists_dir))
        label_of = dict(zip(names, paths, strict=True))
        names, paths = kept, tuple(label_of[name] for name in kept)
        how = _rule_of(wanted)
    rule = f"{part}: {how}; {len(names):,} of {total:,} images"
    return [f"{folder}/{name}" for name in names], paths, rule


def curated(
    name: str, part: str, names: tuple[str, ...], paths: tuple[str, ...], lists_dir: str
) -> tuple[str, ...]:
    """Returns the names that a curated list keeps; computes and stores the list where it is new.

    Args:
      name: "curated7" or "few6".
      part: "train" or "val".
      names: of the images.
      paths: their label files.
      lists_dir: folder for list files.

    Raises UserError: no image is kept, or what `curate.chosen` and `read_label` raise.
    """
    inside = np.zeros(256, bool)
    inside[: len(FINE_TO_COARSE)] = np.isin(FINE_TO_COARSE, CURATED[name])
    rule = _rule_of(name)

    def keep(index: int) -> bool:
        label = read_label(paths[index])
        if min(label.shape) < SHORTEST:
            return False
        covered = int(np.count_nonzero(inside.take(label, mode="clip")))
        return 4 * covered >= 3 * label.size

    stem = f"{name}_{part}"
    kept = chosen(lists_dir, stem, rule, key_of(rule, paths), names, keep)
    if not kept:
        raise UserError(
            f"data.{part}_list is {name!r}, and the rule keeps none of the {len(names)} images "
            f"({rule}); for a small data set, set data.{part}_list='all'"
        )
    if difference := count_difference(name, part, len(names), len(kept)):
        logging.warning("%s", difference)
    return kept


def _rule_of(name: str) -> str:
    """Returns the rule of a curated list in words."""
    return (
        f"{name}: both sides at least {SHORTEST} pixels, and at least 75 % of all pixels of the "
        f"superclasses {', '.join(map(str, CURATED[name]))} of 27"
    )


def count_difference(name: str, part: str, total: int, kept: int) -> str:
    """Returns how a curated list differs from the published count; "" if it does not.

    Only a list over all official images of a part can be compared; for another it is "".
    """
    published = CURATED_COUNTS.get(name, {}).get(part)
    if published is None or total != IMAGES[part] or kept == published:
        return ""
    return (
        f"the list {name} of {part}2017 has {kept:,} of {total:,} images, where {published:,} are "
        f"published ({kept - published:+,}): some label maps differ from those of "
        "stuffthingmaps_trainval2017.zip; numbers on this list are not comparable"
    )
