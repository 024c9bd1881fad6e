"""Miniature copies of the COCO and VOC releases, file formats and all.

Each `write_NAME(root)` writes one and returns the fields of the config's section `data`, beside
`name` and `root`, with which a source opens it. There are eight training images or more.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

# COCO category ids: sky-other, grass, road, person, sea; stuffthingmaps hold these - 1.
SKY, GRASS, ROAD, PERSON, SEA = 157, 124, 149, 1, 155
COUNTS = {"train": 9, "val": 3}

# Categories as panoptic COCO has them.
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person", "isthing": 1},
    {"id": 3, "name": "car", "supercategory": "vehicle", "isthing": 1},
    {"id": 100, "name": "cardboard", "supercategory": "raw-material", "isthing": 0},
    {"id": 112, "name": "door-stuff", "supercategory": "furniture-stuff", "isthing": 0},
    {"id": 187, "name": "sky-other-merged", "supercategory": "sky", "isthing": 0},
]


def write_photo(path: pathlib.Path, height: int, width: int, seed: int) -> None:
    """Writes a smooth picture of its own colours as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR).save(path)


def write_png(path: pathlib.Path, array: np.ndarray, palette: bool = False) -> None:
    """Writes u8[H W] as greyscale or palette PNG, u8[H W 3] as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tolist())
    image.save(path)


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def stuff_map(height: int, width: int, person: float = 0.1) -> np.ndarray:
    """Returns a stuffthingmaps picture: sky, grass, road, a share of person, and one void row."""
    label = np.full((height, width), SKY - 1, np.uint8)
    label[height // 3 :] = GRASS - 1
    label[2 * height // 3 :] = ROAD - 1
    label[:, : round(person * width)] = PERSON - 1
    label[-1] = 255
    return label


def write_cocostuff(root: pathlib.Path) -> dict[str, Any]:
    """COCO 2017 with stuffthingmaps; the curated lists leave out the last image of each split."""
    for split, count in COUNTS.items():
        for index in range(count):
            name = f"{1000 * len(split) + index:012d}"
            size = (360 + 4 * index, 372)
            write_photo(root / f"{split}2017" / f"{name}.jpg", *size, index)
            label = stuff_map(*size, person=0.5 if index == count - 1 else 0.1)
            write_png(root / "stuffthingmaps" / f"{split}2017" / f"{name}.png", label)
    return {}


def encode_runs(mask: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    """Returns COCO's run lengths of bool[H W], as its string or as a list."""
    flat = mask.T.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if flat[0]:
        counts = [0, *counts]
    size = list(mask.shape)
    return {"size": size, "counts": _string(counts) if compressed else counts}


def _string(counts: Sequence[int]) -> str:
    characters = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            last = value == (-1 if bits & 16 else 0)
            characters.append(chr(48 + bits + (0 if last else 32)))
            if last:
                break
    return "".join(characters)


def write_coco_panoptic(root: pathlib.Path) -> dict[str, Any]:
    """COCO 2017 with panoptic PNGs and JSON: sky above, cardboard below, a car, a crowd, a void."""
    for split, count in COUNTS.items():
        images, annotations = [], []
        for index in range(count):
            number = 1000 * len(split) + index
            name = f"{number:012d}"
            height, width = 32, 40 + index
            write_photo(root / f"{split}2017" / f"{name}.jpg", height, width, index)
            ids = np.full((height, width), 70_000 + index, np.int64)
            ids[16:] = 300
            ids[10:20, 5:15] = 9
            ids[10:20, 20:30] = 8
            ids[-1] = 0
            rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
            write_png(root / "annotations" / f"panoptic_{split}2017" / f"{name}.png", rgb)
            images.append(
                {"id": number, "file_name": f"{name}.jpg", "height": height, "width": width}
            )
            infos = [(9, 3, 0), (8, 1, 1), (300, 100, 0), (70_000 + index, 187, 0)]
            annotations.append(
                {
                    "image_id": number,
                    "file_name": f"{name}.png",
                    "segments_info": [
                        {"id": i, "category_id": c, "iscrowd": crowd} for i, c, crowd in infos
                    ],
                }
            )
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        write_json(root / "annotations" / f"panoptic_{split}2017.json", content)
    return {}


def write_cocopersons(root: pathlib.Path) -> dict[str, Any]:
    """COCO 2017 with instances JSON: polygon people, a crowd, and images that the rule leaves out.

    Besides COUNTS images there are, in each split, one without people, one with a person too small
    and one with a person too large.
    """
    for split, count in COUNTS.items():
        images, annotations = [], []
        for index in range(count + 3):
            number = 1000 * len(split) + index
            name = f"{number:012d}.jpg"
            height, width = 60 + index, 80
            write_photo(root / f"{split}2017" / name, height, width, index)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            right = {count: 12, count + 1: 80}.get(index, 40)
            top = 50 if index == count else 0
            square = [10, top, right, top, right, height, 10, height]
            people: list[tuple[int, Any]] = [(0, [square])]
            if index == count + 1:
                people = [(0, [[0, 0, 80, 0, 80, height, 0, height]])]
            if index == 1:
                crowd = np.zeros((height, width), bool)
                crowd[:, 60:70] = True
                people.append((1, encode_runs(crowd, compressed=False)))
            if index == count + 2:
                people = []
            annotations += [
                {"image_id": number, "category_id": PERSON, "iscrowd": crowd, "segmentation": mask}
                for crowd, mask in people
            ]
            annotations.append(
                {"image_id": number, "category_id": 3, "iscrowd": 0, "segmentation": [square]}
            )
        # The images of the official files are in no order.
        content = {"images": images[::-1], "annotations": annotations, "categories": CATEGORIES}
        write_json(root / "annotations" / f"instances_{split}2017.json", content)
    return {"test_split": "train"}


def write_densepose(root: pathlib.Path) -> dict[str, Any]:
    """DensePose-COCO beside images of 2014: head, torso, legs, and a person without annotation."""
    for split, count in {"train": 9, "minival": 3}.items():
        folder = "train2014" if split == "train" else "val2014"
        images, annotations = [], []
        for index in range(count):
            number = 1000 * len(split) + index
            name = f"COCO_{folder}_{number:012d}.jpg"
            write_photo(root / folder / name, 48, 64, index)
            images.append({"id": number, "file_name": name, "height": 48, "width": 64})
            head, torso, legs = (np.zeros((256, 256), bool) for _ in range(3))
            head[:64], torso[64:160], legs[160:] = True, True, True
            masks: list[Any] = [[] for _ in range(14)]
            masks[13], masks[0] = encode_runs(head), encode_runs(torso)
            masks[5] = encode_runs(legs)
            person = {"image_id": number, "category_id": 1, "segmentation": []}
            annotations.append({**person, "bbox": [8.0, 8.0, 16.0, 32.0], "dp_masks": masks})
            annotations.append({**person, "bbox": [40.0, 8.0, 16.0, 32.0]})
        # One image has nobody annotated.
        images.append({**images[0], "id": 99, "file_name": "COCO_val2014_000000000099.jpg"})
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES[:1]}
        write_json(root / "annotations" / f"densepose_coco_2014_{split}.json", content)
    return {"train_split": "train", "test_split": "minival"}


def _voc_maps(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a class map and an object map u8[H W]: two objects with void borders."""
    label, objects = np.zeros((2, 40, 50), np.uint8)
    for number, (rows, columns) in enumerate(((slice(4, 16), slice(4, 20)), (slice(20, 36),) * 2)):
        for array, value in ((label, 1 + (index + number) % 20), (objects, number + 1)):
            array[rows, columns] = 255
            array[rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1] = value
    return label, objects


def _write_voc(root: pathlib.Path, train: int) -> None:
    """The official archive: `train` training images, three of validation, six of neither."""
    ids = [f"2007_{index:06d}" for index in range(train + 9)]
    lists = {"train": ids[:train], "val": ids[train : train + 3]}
    lists["trainval"] = lists["train"] + lists["val"]
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in lists.items():
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_text("".join(f"{name}\n" for name in names))
    for index, name in enumerate(ids):
        write_photo(root / "JPEGImages" / f"{name}.jpg", 40, 50, index)
        if name in lists["trainval"]:
            label, objects = _voc_maps(index)
            write_png(root / "SegmentationClass" / f"{name}.png", label, palette=True)
            write_png(root / "SegmentationObject" / f"{name}.png", objects, palette=True)


def write_voc12(root: pathlib.Path) -> dict[str, Any]:
    """VOC 2012, with the augmented labels as PNGs in SegmentationClassAug (validation included)."""
    _write_voc(root, train=4)
    for index in range(13):
        label, _ = _voc_maps(index)
        if index >= 7:
            label[label == 255] = 0  # SBD has no void
        write_png(root / "SegmentationClassAug" / f"2007_{index:06d}.png", label)
    return {"train_split": "trainaug"}


def write_voc12_sbd(root: pathlib.Path) -> dict[str, Any]:
    """VOC 2012, with the augmented labels in the archive of SBD, validation images among them."""
    _write_voc(root, train=4)
    sbd = root / "benchmark_RELEASE" / "dataset"
    for folder in ("cls", "inst"):
        (sbd / folder).mkdir(parents=True)
    for index in range(2, 13):
        maps = zip(("cls", "inst"), ("GTcls", "GTinst"), _voc_maps(index), strict=True)
        for folder, variable, values in maps:
            values[values == 255] = 0
            boundaries = np.empty((20, 1), object)
            boundaries[:] = [[scipy.sparse.csc_matrix(values.shape, dtype=float)]] * 20
            content = {
                "Segmentation": values,
                "Boundaries": boundaries,
                "CategoriesPresent": np.unique(values[values > 0])[:, None],
            }
            path = sbd / folder / f"2007_{index:06d}.mat"
            scipy.io.savemat(path, {variable: content}, do_compression=True)
    (sbd / "train.txt").write_text("".join(f"2007_{index:06d}\n" for index in range(4, 13)))
    (sbd / "val.txt").write_text("2007_000002\n2007_000003\n")
    return {"train_split": "trainaug", "instances": True}
