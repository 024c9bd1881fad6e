"""COCO 2017 with panoptic labels: 133 categories of things and stuff, or their 27 superclasses.

Kirillov et al. 2019. Layout, that of train2017.zip, val2017.zip and the two levels of
panoptic_annotations_trainval2017.zip:

    root/train2017/<id>.jpg                               118,287 images; val2017: 5,000
    root/annotations/panoptic_train2017.json              segments and categories; likewise val2017
    root/annotations/panoptic_train2017/<id>.png          RGB; segment id = R + 256 G + 65536 B

The 27 classes are COCO-Stuff's, by the supercategory of each category. The panoptic categories
merge some of the 91 kinds of stuff first, so that scores on these labels are close to, but not the
same as, scores on stuffthingmaps.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.coco import IMAGES, IMAGES_REMEDY
from jaxseg.data.coco_classes import COARSE
from jaxseg.data.coco_json import read_annotations, require_files
from jaxseg.data.images import read_image
from jaxseg.data.labelled import Labelled, checked, open_root, split_parts

EXPECTED: dict[str, dict[str, int]] = {
    "coco_panoptic": {**IMAGES, "train+val": sum(IMAGES.values())}
}

MERGES = ("coarse27", "none")

# What is read of an annotation file.
_FIELDS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "file_name", "segments_info"),
    "categories": ("id", "name", "supercategory", "isthing"),
}

_REMEDY = (
    f"{IMAGES_REMEDY}; unpack panoptic_annotations_trainval2017.zip from "
    "http://images.cocodataset.org/annotations/ in data.root, and the two archives of PNGs in it "
    "in data.root/annotations, or name other places in data.labels and data.annotations"
)


@dataclasses.dataclass(frozen=True)
class Segments:
    """What the annotation file says of the segments of one image, in its order."""

    ids: np.ndarray  # i32[S]
    classes: np.ndarray  # i32[S] class of each
    numbers: np.ndarray  # i32[S] number for the label "instance"; -1 for a crowd


@dataclasses.dataclass(frozen=True)
class PanopticReader:
    """Reads panoptic PNGs: "class" and "instance"; -1 where there is no segment.

    Raises UserError for a segment id that the annotation file does not have.
    """

    paths: tuple[str, ...]
    segments: tuple[Segments, ...]
    annotations: tuple[str, ...]  # the file of each image, for messages

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        path, segments = self.paths[index], self.segments[index]
        red, green, blue = np.moveaxis(read_image(path, upright=False).astype(np.int32), 2, 0)
        stored = red + 256 * green + 65536 * blue
        order = np.argsort(segments.ids)
        ids = np.concatenate([[0], segments.ids[order]]).astype(np.int32)  # 0 = no segment
        place = np.searchsorted(ids, stored)
        unknown = ids.take(place, mode="clip") != stored
        if unknown.any():
            raise UserError(
                f"label {path} has the segment {stored[unknown][0]}, of which "
                f"{self.annotations[index]} says nothing; the two are of different releases, or "
                "the PNG was converted. Unpack both again"
            )
        none = np.full(1, -1, np.int32)
        return {
            "class": np.concatenate([none, segments.classes[order]]).take(place),
            "instance": np.concatenate([none, segments.numbers[order]]).take(place),
        }


def open_coco_panoptic(
    root: str,
    split: str,
    merge: str = "coarse27",
    images: str = "{split}2017",
    labels: str = "annotations/panoptic_{split}2017",
    annotations: str = "annotations/panoptic_{split}2017.json",
    on_corrupt: str = "error",
    check: str = "none",
) -> Labelled:
    """Opens COCO panoptic; labels "class" and "instance" (the segment, crowds -1), -1 = none.

    Images without an entry in the annotation file are left out.

    Args:
      root: folder of the data set.
      split: "train", "val", "train+val", or another for which the three places exist.
      merge: "coarse27" for the 27 superclasses in COCO-Stuff's order, "none" for the 133
        categories in the order of their ids.
      images: folder of the images below `root`; "{split}" stands for the split.
      labels: folder of the panoptic PNGs, likewise.
      annotations: annotation file, likewise.
      on_corrupt: "error" or "skip", as in `open_folder`.
      check: "headers" or "none": look for damaged files at the start; see `labelled.checked`.

    Raises:
      UserError: a place or a file is missing, the annotation file is damaged or names a category
        that it does not have, or what `Labelled` and `PanopticReader` raise.
    """
    if merge not in MERGES:
        raise UserError(f"data.merge is {merge!r}; expected one of {', '.join(MERGES)}")
    parts = split_parts(split)
    fields = {images: "<id>.jpg", labels: "<id>.png", annotations: "COCO panoptic JSON"}
    places = {
        field.replace("{split}", part): what for part in parts for field, what in fields.items()
    }
    top = open_root("coco_panoptic", root, split, places, _REMEDY)
    names: list[str] = []
    paths: list[str] = []
    segments: list[Segments] = []
    sources: list[str] = []
    classes: dict[int, tuple[str, ...]] = {}
    for number, part in enumerate(parts):
        folder, label_folder, file = (field.replace("{split}", part) for field in fields)
        path = os.path.join(top, file)
        content = read_annotations(path, **_FIELDS)
        class_of, classes[number] = _categories(path, content["categories"], merge)
        rows = _rows(path, content, class_of)
        names += [f"{folder}/{image}" for image, _, _ in rows]
        paths += [f"{label_folder}/{label}" for _, label, _ in rows]
        segments += [found for _, _, found in rows]
        sources += [path] * len(rows)
    if len(set(classes.values())) > 1:
        raise UserError(f"the annotation files of {split!r} have different categories")
    require_files(top, names + paths, "the annotation file", _REMEDY)
    files = tuple(os.path.join(top, path) for path in paths)
    source = Labelled(
        top,
        tuple(names),
        files,
        {"class": classes[0], "instance": ()},
        on_corrupt=on_corrupt,
        reader=PanopticReader(files, tuple(segments), tuple(sources)),
    )
    return checked(source, check)


def _categories(
    path: str, records: list[dict[str, Any]], merge: str
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Returns the class of each category id, and the names of the classes."""
    categories = sorted(records, key=lambda record: record["id"])
    if merge == "none":
        class_of = {record["id"]: place for place, record in enumerate(categories)}
        return class_of, tuple(record["name"] for record in categories)
    return {record["id"]: _superclass(record, path) for record in categories}, COARSE


def _superclass(record: Mapping[str, Any], path: str) -> int:
    """Returns the superclass of 27: "raw-material" of stuff is COCO-Stuff's "rawmaterial-stuff"."""
    name = record["supercategory"].removesuffix("-stuff").replace("-", "")
    name += "-things" if record["isthing"] else "-stuff"
    if name not in COARSE:
        raise UserError(
            f"{path}: the supercategory {record['supercategory']!r} of {record['name']!r} is none "
            "of COCO's 27; set data.merge='none' to use the categories as they are"
        )
    return COARSE.index(name)


def _rows(
    path: str, content: dict[str, list[dict[str, Any]]], class_of: Mapping[int, int]
) -> list[tuple[str, str, Segments]]:
    """Returns (image file, label file, segments) of every annotated image, by image id."""
    image_of = {record["id"]: record["file_name"] for record in content["images"]}
    rows = []
    for record in sorted(content["annotations"], key=lambda record: record["image_id"]):
        infos = record["segments_info"]
        try:
            classes = np.array([class_of[info["category_id"]] for info in infos], np.int32)
            ids = np.array([info["id"] for info in infos], np.int32)
            crowd = np.array([info.get("iscrowd", 0) for info in infos], bool)
            image = image_of[record["image_id"]]
        except KeyError as error:
            raise UserError(
                f"{path}: the annotation of image {record['image_id']} names {error}, which the "
                "file does not describe; unpack or download it again"
            ) from error
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: the annotation of image {record['image_id']} is no panoptic one: "
                f"{error}; unpack or download it again"
            ) from error
        numbers = np.where(crowd, -1, np.cumsum(~crowd) - 1).astype(np.int32)
        rows.append((image, record["file_name"], Segments(ids, classes, numbers)))
    if not rows:
        raise UserError(f"{path} annotates no image; unpack or download it again")
    return rows
