"""COCO-Persons: small images of people, person against the rest.

Harb and Knöbelreiter 2021 train InfoSeg on 15,399 such images of 128 x 128, and do not say which.
This list is our own (METHODS 1.2): images of train2017 whose person masks, crowds included, cover
5 to 80 % of the pixels, the shorter side scaled to 128, the centre cropped, and of these the first
15,399 by id. Layout, that of train2017.zip and annotations_trainval2017.zip:

    root/train2017/<id>.jpg
    root/annotations/instances_train2017.json

Opening the first time parses the whole JSON file and draws the masks of all images with people to
make the list, which takes minutes; the list and its masks are kept for the next time.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.coco import IMAGES_REMEDY
from jaxseg.data.coco_json import read_annotations, require_files
from jaxseg.data.curate import chosen, key_of
from jaxseg.data.fingerprint import digest, of_source
from jaxseg.data.labelled import Labelled, checked, open_root, split_parts
from jaxseg.data.masks import decode_mask
from jaxseg.data.source import Example, Wrapper
from jaxseg.views.geometry import EvalView

COUNT = 15_399
CLASSES = ("rest", "person")
SHARES = (5, 80)  # least and greatest share of the pixels that persons cover, in percent

# "train" is the whole data set: InfoSeg follows IIC, which trains, matches and tests on one set.
EXPECTED: dict[str, dict[str, int]] = {"cocopersons": {"train": COUNT}}

# Images of instances_train2017.json with people, crowds included.
WITH_PEOPLE = {"train": 64_115}

_PERSON = 1  # category id
LISTS = ("persons", "all")
_REMEDY = (
    f"{IMAGES_REMEDY}; unpack annotations_trainval2017.zip from "
    "http://images.cocodataset.org/annotations/ in data.root, or name another file in "
    "data.annotations"
)
_RULE = (
    f"persons: person masks, crowds included, cover {SHARES[0]} to {SHARES[1]} % of the pixels; "
    "our list, the published one is not known"
)


@dataclasses.dataclass(frozen=True)
class PersonImage:
    """An image of the annotation file and the masks of its people."""

    file_name: str
    height: int
    width: int
    segmentations: tuple[Any, ...]  # COCO polygons or run lengths

    def mask(self, where: str) -> np.ndarray:
        """Returns the union of the masks, bool[H W]; `where` names the file for the UserError."""
        mask = np.zeros((self.height, self.width), bool)
        for segmentation in self.segmentations:
            try:
                mask |= decode_mask(segmentation, self.height, self.width)
            except ValueError as error:
                raise UserError(
                    f"{where}: a mask of image {self.file_name} is damaged: {error}. Unpack or "
                    "download the file again"
                ) from error
        return mask


@dataclasses.dataclass(frozen=True)
class PersonReader:
    """Draws the label "class": 1 where a person's mask is, else 0."""

    images: tuple[PersonImage, ...]
    annotations: tuple[str, ...]  # the file of each image, for messages

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        return {"class": self.images[index].mask(self.annotations[index]).astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class Viewed(Wrapper):
    """The examples of `source` in a fixed view, such as the crops that a data set consists of."""

    view: EvalView

    @property
    def fingerprint(self) -> str:
        """That of the source, and of the view."""
        return digest("viewed", of_source(self.source), dataclasses.asdict(self.view))

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the source, if it names its images; else ()."""
        return getattr(self.source, "names", ())

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        image, label, _ = self.view(example.image, example.label)
        return dataclasses.replace(example, image=image, label=label)


def open_cocopersons(
    root: str,
    split: str,
    side: int = 128,
    count: int = COUNT,
    images: str = "{split}2017",
    annotations: str = "annotations/instances_{split}2017.json",
    people_list: str = "persons",
    lists_dir: str = "jaxseg-lists",
    on_corrupt: str = "error",
    check: str = "none",
) -> Viewed:
    """Opens COCO-Persons; label "class": 0 rest, 1 person.

    Args:
      root: folder of the data set.
      split: "train"; "val" and "train+val" give images of val2017 by the same rule.
      side: images are scaled (bilinear, labels nearest) and cropped to side x side; 0 = as stored.
      count: how many images of a part of the split, the first by id; 0 = all that the rule keeps.
        Does not hold for the list "all".
      images: folder of the images below `root`; "{split}" stands for the split.
      annotations: instances file, likewise.
      people_list: "persons", by the rule; "all", every image with people, which draws no mask.
      lists_dir: folder below `root`, or an absolute path, that keeps the computed lists.
      on_corrupt: "error" or "skip", as in `open_folder`.
      check: "headers" or "none": look for damaged files at the start; see `labelled.checked`.

    Raises:
      UserError: a place or a file is missing, the annotation file is damaged, the rule keeps no
        image, a list cannot be kept, or what `Labelled` raises.
    """
    if side < 0 or count < 0:
        raise UserError(f"data.side is {side} and data.count {count}; expected 0 or more")
    if people_list not in LISTS:
        raise UserError(f"data.people_list is {people_list!r}; expected one of {', '.join(LISTS)}")
    parts = split_parts(split)
    places = {
        field.replace("{split}", part): what
        for part in parts
        for field, what in ((images, "<id>.jpg"), (annotations, "COCO instances JSON"))
    }
    top = open_root("cocopersons", root, split, places, _REMEDY)
    names: list[str] = []
    kept: list[PersonImage] = []
    files: list[str] = []
    rules: list[str] = []
    for part in parts:
        folder, file = (field.replace("{split}", part) for field in (images, annotations))
        path = os.path.join(top, file)
        if people_list == "all":
            found = _people(path)
            rules.append(f"{part}: all {len(found):,} images with people")
        else:
            people = _chosen(path, part, os.path.join(top, lists_dir))
            found = people[: count or None]
            rules.append(f"{part}: {_RULE}; the first {len(found):,} of {len(people):,} by id")
        names += [f"{folder}/{image.file_name}" for image in found]
        kept += found
        files += [path] * len(found)
    require_files(top, names, "the list", _REMEDY)
    reader = PersonReader(tuple(kept), tuple(files))
    source = Labelled(
        top, tuple(names), (), {"class": CLASSES}, on_corrupt=on_corrupt, reader=reader,
        rule="; ".join(rules),
    )  # fmt: skip
    return Viewed(checked(source, check), EvalView(resize=side, crop=side))


def _chosen(path: str, part: str, lists_dir: str) -> list[PersonImage]:
    """Returns the images that the rule keeps, by id.

    Beside the list it keeps their masks, in a file of the same form as the annotation file, which
    is smaller and quicker to parse.
    """
    key = key_of(_RULE, [path])
    short = os.path.join(lists_dir, f"persons_{part}-{key}.json")
    if os.path.exists(short):
        return _people(short)
    images = _people(path)
    names = [image.file_name for image in images]

    def keep(index: int) -> bool:
        mask = images[index].mask(path)
        covered = 100 * int(np.count_nonzero(mask))
        return SHARES[0] * mask.size <= covered <= SHARES[1] * mask.size

    listed = set(chosen(lists_dir, f"persons_{part}", _RULE, key, names, keep))
    if not listed:
        raise UserError(f"{path}: none of its {len(names)} images with people is kept ({_RULE})")
    kept = [image for image in images if image.file_name in listed]
    _write(short, kept)
    return kept


def _write(path: str, images: list[PersonImage]) -> None:
    """Writes an annotation file of these images alone, numbered in their order."""
    content = {
        "images": [
            {"id": n, "file_name": image.file_name, "height": image.height, "width": image.width}
            for n, image in enumerate(images)
        ],
        "annotations": [
            {"image_id": n, "category_id": _PERSON, "segmentation": segmentation}
            for n, image in enumerate(images)
            for segmentation in image.segmentations
        ],
    }
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(temporary, path)


def _people(path: str) -> list[PersonImage]:
    """Returns the images with people of an instances file, by id."""
    content = read_annotations(
        path,
        images=("id", "file_name", "height", "width"),
        annotations=("image_id", "category_id", "segmentation"),
    )
    masks: dict[int, list[Any]] = {}
    for record in content["annotations"]:
        if record["category_id"] == _PERSON:
            masks.setdefault(record["image_id"], []).append(record["segmentation"])
    rows: dict[int, Mapping[str, Any]] = {record["id"]: record for record in content["images"]}
    if unknown := [identity for identity in masks if identity not in rows]:
        raise UserError(
            f"{path} annotates image {unknown[0]}, which it does not list; unpack or download it "
            "again"
        )
    return [
        PersonImage(
            rows[identity]["file_name"],
            rows[identity]["height"],
            rows[identity]["width"],
            tuple(masks[identity]),
        )
        for identity in sorted(masks)
    ]
