"""KITTI: street scenes from a car, in the 19 classes of Cityscapes.

`kitti_step` is KITTI-STEP (Weber et al. 2021): the videos of KITTI's tracking benchmark with
panoptic maps. Layout, as its tools expect it (or the images as the tracking benchmark unpacks,
in root/training/image_02/<sequence>):

    root/images/<split>/<sequence>/<frame>.png            about 375 x 1242
    root/panoptic_maps/<split>/<sequence>/<frame>.png     red: trainId 0 to 18, 255 = void;
                                                          green, blue: instance

`kitti_semantic` is the semantic benchmark (KITTI 2015). Layout:

    root/training/image_2/<id>.png and root/training/semantic/<id>.png     ids of Cityscapes
    root/testing/image_2/<id>.png                                          no labels

or, for a folder of samples, root/images/<id>.jpg (or .png) and root/labels/<id>.png.
"""

import functools
from collections.abc import Callable

from jaxseg.data.cityscapes import IDS19, NAMES19
from jaxseg.data.encodings import RedIds
from jaxseg.data.folder import Folder
from jaxseg.data.layout import Part, has_folder, open_parts, split_parts

# The split of KITTI-MOTS, which KITTI-STEP keeps.
SEQUENCES: dict[str, tuple[str, ...]] = {
    "train": tuple(f"{n:04}" for n in (0, 1, 3, 4, 5, 9, 11, 12, 15, 17, 19, 20)),
    "val": tuple(f"{n:04}" for n in (2, 6, 7, 8, 10, 13, 14, 16, 18)),
}
STEP_IDS = RedIds({value: value for value in range(19)} | {255: -1})

# KITTI-STEP: METHODS.md 1.2 (HSG). The semantic benchmark has 200 images of each kind.
EXPECTED: dict[str, dict[str, int]] = {
    "kitti_step": {"train": 5027, "val": 2981, "train+val": 8008},
    "kitti_semantic": {"train": 150, "val": 50, "all": 200, "test": 200},
}

_STEP_LAYOUT = (
    "images/<split>/<sequence>/*.png (or training/image_02/<sequence>/*.png, as the tracking "
    "benchmark unpacks) and panoptic_maps/<split>/<sequence>/*.png, where <split> is train or val"
)
_SEMANTIC_LAYOUT = (
    "training/image_2/*.png, training/semantic/*.png and testing/image_2/*.png, as "
    "data_semantics.zip unpacks; or images/* and labels/*.png"
)


def open_kitti_step(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens a split of KITTI-STEP ("train", "val", "train+val"); label "class" in [0, 18].

    `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; folders, frames or panoptic maps are missing; or what `open_folder`
        and `Folder` raise, such as for a trainId above 18.
    """
    parts = []
    for name in split_parts(split, SEQUENCES, "KITTI-STEP"):
        images, labels, endings = f"images/{name}", f"panoptic_maps/{name}", (".png", ".jpg")
        if not has_folder(root, images) and has_folder(root, "training/image_02"):
            select = functools.partial(_in_sequences, SEQUENCES[name])
            parts.append(Part("training/image_02", labels, endings, select=select))
        else:
            parts.append(Part(images, labels, endings))
    return open_parts("KITTI-STEP", root, parts, NAMES19, STEP_IDS, _STEP_LAYOUT, on_corrupt)


def _in_sequences(sequences: tuple[str, ...], names: list[str]) -> list[str]:
    return [name for name in names if name.split("/")[0] in sequences]


def open_kitti_semantic(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens a split of KITTI's semantic benchmark; label "class" in [0, 18], the trainIds.

    The benchmark has no validation split; ours: of the images in the order of their names, every
    fourth is "val" (the 4th, 8th, ...), the others are "train", all of them "all". "test" is the
    benchmark's, without labels. `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: another split; folders, images or labels are missing; or what `open_folder` and
        `Folder` raise.
    """
    parts = [
        _semantic_part(root, name)
        for name in split_parts(split, _SEMANTIC_SPLITS, "KITTI semantic")
    ]
    return open_parts("KITTI semantic", root, parts, NAMES19, IDS19, _SEMANTIC_LAYOUT, on_corrupt)


def _semantic_part(root: str, split: str) -> Part:
    if split == "test":
        return Part("testing/image_2")
    samples = not has_folder(root, "training/image_2") and has_folder(root, "images")
    folders = ("images", "labels") if samples else ("training/image_2", "training/semantic")
    return Part(*folders, select=_SEMANTIC_SPLITS[split])


def _not_every_fourth(names: list[str]) -> list[str]:
    return [name for index, name in enumerate(names) if index % 4 != 3]


_SEMANTIC_SPLITS: dict[str, Callable[[list[str]], list[str]]] = {
    "train": _not_every_fourth,
    "val": lambda names: names[3::4],
    "all": list,
    "test": list,
}
