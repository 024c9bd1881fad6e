"""DensePose-COCO: people of COCO 2014 with their visible body parts.

Güler et al. 2018. Layout, that of the files of densepose.org beside the images of COCO:

    root/annotations/densepose_coco_2014_<split>.json     train, minival, valminusminival
    root/train2014/COCO_train2014_<id>.jpg                the images; those of 2017 are the same
    root/val2014/COCO_val2014_<id>.jpg                    files: root/{train,val}2017/<id>.jpg

A person is annotated by up to 14 masks of 256 x 256 that cover its bounding box. Only some people
of an image are; all that is not a part of one of them is -1.

The four groups are those that HSG (Ke et al. 2022) names: head, torso, upper limb, lower limb. It
does not say which part belongs to which; arms and hands as upper, legs and feet as lower limb is
our reading (METHODS 3.8).
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.coco_json import read_annotations
from jaxseg.data.folder import few
from jaxseg.data.labelled import Labelled, checked, list_folder, open_root, split_parts
from jaxseg.data.masks import decode_runs

# The parts in the order of "dp_masks", each with its group (DensePose's data format, 2018).
PARTS = {
    "torso": "torso",
    "right hand": "upper limb",
    "left hand": "upper limb",
    "left foot": "lower limb",
    "right foot": "lower limb",
    "right thigh": "lower limb",
    "left thigh": "lower limb",
    "right lower leg": "lower limb",
    "left lower leg": "lower limb",
    "left upper arm": "upper limb",
    "right upper arm": "upper limb",
    "left forearm": "upper limb",
    "right forearm": "upper limb",
    "head": "head",
}
GROUPS = ("head", "torso", "upper limb", "lower limb")
_GROUP_OF = tuple(GROUPS.index(group) for group in PARTS.values())

# No number of images is stated in METHODS, nor fixed by the release.
EXPECTED: dict[str, dict[str, int]] = {"densepose": {}}

_REMEDY = (
    "Download densepose_coco_2014_<split>.json from densepose.org (split: train, minival or "
    "valminusminival) to data.root/annotations, and unpack train2014.zip and val2014.zip, or "
    "train2017.zip and val2017.zip, from http://images.cocodataset.org/zips/ in data.root"
)


@dataclasses.dataclass(frozen=True)
class Person:
    """One annotated person."""

    box: tuple[float, float, float, float]  # x, y, width, height in pixels
    masks: tuple[Any, ...]  # 14 run-length masks over the box; empty where a part is not seen


@dataclasses.dataclass(frozen=True)
class PoseReader:
    """Paints the labels of annotated people.

    "part": the group of the body part, 0 to 3; "class": 0, person; "instance": the number of the
    person among those annotated in the image. Where two overlap, the later one is seen; of a
    person's parts, too, as in DensePose's own tools. Raises UserError for a damaged mask.
    """

    sizes: tuple[tuple[int, int], ...]  # height and width of each image
    people: tuple[tuple[Person, ...], ...]
    names: tuple[str, ...]  # file and image, for messages

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        label = {
            kind: np.full(self.sizes[index], -1, np.int32) for kind in ("part", "class", "instance")
        }
        for number, person in enumerate(self.people[index]):
            try:
                self._paint(label, number, person)
            except (TypeError, ValueError, AttributeError) as error:
                raise UserError(
                    f"{self.names[index]}: the masks of person {number} are damaged: {error}. "
                    "Download the annotations again"
                ) from error
        return label

    def _paint(self, label: dict[str, np.ndarray], number: int, person: Person) -> None:
        if len(person.masks) != len(PARTS):
            raise ValueError(f"{len(person.masks)} parts in place of {len(PARTS)}")
        x, y, box_width, box_height = person.box
        rows, i = _span(y, box_height, label["part"].shape[0])
        columns, j = _span(x, box_width, label["part"].shape[1])
        for group, runs in zip(_GROUP_OF, person.masks, strict=True):
            if not runs:
                continue
            mask = decode_runs(runs)
            # The pixel of the mask below the centre of each image pixel inside the box.
            seen = mask[np.ix_((i * mask.shape[0]).astype(int), (j * mask.shape[1]).astype(int))]
            label["part"][rows, columns][seen] = group
            label["class"][rows, columns][seen] = 0
            label["instance"][rows, columns][seen] = number


def _span(start: float, length: float, side: int) -> tuple[slice, np.ndarray]:
    """Returns the pixels whose centres lie in [start, start + length), as fractions of it too."""
    if not (np.isfinite(start) and 0 < length < np.inf):
        raise ValueError(f"a box that starts at {start} and is {length} long")
    first = int(np.clip(np.ceil(start - 0.5), 0, side))
    end = int(np.clip(np.ceil(start + length - 0.5), first, side))
    fractions = (np.arange(first, end) + 0.5 - start) / length
    # Rounding must not reach 1, which is outside of the mask.
    return slice(first, end), np.minimum(fractions, np.nextafter(1.0, 0.0))


def open_densepose(
    root: str,
    split: str,
    annotations: str = "annotations/densepose_coco_2014_{split}.json",
    on_corrupt: str = "error",
    check: str = "none",
) -> Labelled:
    """Opens DensePose-COCO: the images with annotated people, by id.

    Labels: "part" (head, torso, upper limb, lower limb), "class" (person) and "instance"; -1
    elsewhere. See `PoseReader`.

    Args:
      root: folder of the data set.
      split: "train", "minival", "valminusminival", or several joined by "+".
      annotations: annotation file below `root`; "{split}" stands for the split.
      on_corrupt: "error" or "skip", as in `open_folder`.
      check: "headers" or "none": look for damaged files at the start; see `labelled.checked`.

    Raises:
      UserError: a place or an image is missing, the annotation file is damaged or annotates
        nobody, or what `Labelled` and `PoseReader` raise.
    """
    parts = split_parts(split)
    files = [annotations.replace("{split}", part) for part in parts]
    top = open_root("densepose", root, split, dict.fromkeys(files, "DensePose JSON"), _REMEDY)
    rows = [row for file in files for row in _rows(os.path.join(top, file))]
    names = _images(top, [image for image, _ in rows])
    reader = PoseReader(
        tuple((image["height"], image["width"]) for image, _ in rows),
        tuple(people for _, people in rows),
        tuple(names),
    )
    classes = {"part": GROUPS, "class": ("person",), "instance": ()}
    source = Labelled(top, tuple(names), (), classes, on_corrupt=on_corrupt, reader=reader)
    return checked(source, check)


def _rows(path: str) -> list[tuple[Mapping[str, Any], tuple[Person, ...]]]:
    """Returns the record of every image with annotated people, and these, by image id."""
    content = read_annotations(
        path, images=("id", "file_name", "height", "width"), annotations=("image_id", "bbox")
    )
    people: dict[int, list[Person]] = {}
    for record in content["annotations"]:
        # Most people of COCO are not annotated; their records have no masks.
        if record.get("dp_masks"):
            person = Person(tuple(record["bbox"]), tuple(record["dp_masks"]))
            people.setdefault(record["image_id"], []).append(person)
    images = {record["id"]: record for record in content["images"]}
    rows: list[tuple[Mapping[str, Any], tuple[Person, ...]]] = [
        (images[number], tuple(people[number])) for number in sorted(people) if number in images
    ]
    if len(rows) < len(people) or not rows:
        raise UserError(
            f"{path} has masks (dp_masks) of {len(people)} images and describes {len(rows)} of "
            "them; expected masks, and the record of every image. Download it again"
        )
    return rows


def _images(top: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the image files: those of 2014 if their folder is there, else those of 2017."""

    folders = ("train2014", "val2014", "train2017", "val2017")
    there = {folder: list_folder(os.path.join(top, folder)) for folder in folders}
    names: list[str] = []
    missing: list[str] = []
    for record in records:
        old, new = record["file_name"], f"{record['id']:012d}.jpg"
        places = zip(folders, (old, old, new, new), strict=True)
        found = [f"{folder}/{name}" for folder, name in places if name in there[folder]]
        if found:
            names.append(found[0])
        else:
            missing.append(old)
    if missing:
        raise UserError(
            f"densepose: {len(missing)} of {len(records)} images are in none of train2014, "
            f"val2014, train2017 and val2017 in data.root {top}: {few(missing)}. {_REMEDY}"
        )
    return names
