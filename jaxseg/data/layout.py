"""What the readers of official layouts share: finding a split's images and the label of each."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.folder import Folder, checked, few, is_folder
from jaxseg.data.images import SUFFIXES, find_files


@dataclasses.dataclass(frozen=True)
class Part:
    """A folder of images and the folder that holds their labels, both relative to the root.

    The label of an image has the image's path in its own folder, with the ending exchanged.
    """

    images: str
    labels: str = ""  # "" = this part has no labels
    endings: tuple[str, ...] = SUFFIXES  # of image files, lower case
    label_ending: str = ".png"
    needs_labels: bool = True  # whether an image without a label is an error
    # Which of its images, given their paths in `images`, sorted.
    select: Callable[[list[str]], list[str]] = list


def split_parts(split: str, valid: Iterable[str], data_set: str) -> tuple[str, ...]:
    """Returns the parts of a split such as "test+train_extra"; raises UserError for other names."""
    parts = tuple(split.split("+"))
    if not set(parts) <= set(valid) or len(set(parts)) < len(parts):
        raise UserError(
            f"{data_set} has no split {split!r}; its splits are {', '.join(valid)}, or several of "
            "these, each once, joined by '+'. Correct data.train_split or data.test_split"
        )
    return parts


def open_parts(
    data_set: str,
    root: str,
    parts: Sequence[Part],
    class_names: Sequence[str],
    decode: Callable[[str], np.ndarray] | None,
    layout: str,
    on_corrupt: str = "error",
    channels: int = 3,
) -> Folder:
    """Opens images below `root` with their labels, and checks the header of every file.

    Images come part by part, in the order of their names. Where no part has any label, the source
    has no classes; where some images have none, their label is -1 everywhere.

    Args:
      data_set: its name, for messages.
      decode: reads a label file into i32[H W] (see `encodings`).
      layout: the files expected, for messages.

    Raises:
      UserError: a folder is missing or holds no image; labels that a part needs are missing; or
        what `folder.checked` raises.
    """
    top = find_root(data_set, root, [part.images for part in parts], layout)
    names: list[str] = []
    labels: list[str] = []
    for part in parts:
        found = list_part(data_set, top, part, layout)
        names += [f"{part.images}/{name}" for name in found]
        labels += find_labels(data_set, top, part, found)
    has_labels = any(labels) and bool(class_names)
    return checked(
        Folder(
            root=top,
            names=tuple(names),
            labels=tuple(labels) if has_labels else (),
            classes={"class": tuple(class_names)} if has_labels else {},
            on_corrupt=on_corrupt,
            channels=channels,
            decode=decode,
        )
    )


def find_root(data_set: str, root: str, folders: Iterable[str], layout: str) -> str:
    """Returns the absolute path of `root`; raises UserError unless it holds all the folders."""
    if not root:
        raise UserError(
            f"data.root is empty; set it to the folder of {data_set}. Expected {layout}"
        )
    top = os.path.abspath(os.path.expanduser(root))
    missing = [name for name in folders if not is_folder(os.path.join(top, name))]
    if missing:
        raise UserError(
            f"{data_set}: no folder {' nor '.join(missing)} in data.root {top}. Expected {layout}"
        )
    return top


def has_folder(root: str, name: str) -> bool:
    """Tells whether there is a folder `name` below `root`."""
    return is_folder(os.path.join(os.path.expanduser(root), name))


def list_part(data_set: str, top: str, part: Part, layout: str) -> list[str]:
    """Returns the images of a part, relative to its folder, sorted; raises UserError for none."""
    folder = os.path.join(top, part.images)
    # A label folder inside the image folder holds no images.
    label_root = os.path.join(top, part.labels)
    leave = (label_root,) if part.labels and is_folder(label_root) else ()
    names = part.select(find_files(folder, part.endings, leave))
    if not names:
        raise UserError(
            f"{data_set}: no image *{' or *'.join(part.endings)} under {folder}. Expected {layout}"
        )
    return names


def find_labels(data_set: str, top: str, part: Part, names: Sequence[str]) -> list[str]:
    """Returns the label file of each image of a part, "" where there is none."""
    if not part.labels:
        return [""] * len(names)
    folder = os.path.join(top, part.labels)
    there = find_files(folder, (part.label_ending.lower(),)) if is_folder(folder) else []
    known = set(there)
    wanted = [_without(name, part.endings) + part.label_ending for name in names]
    missing = [name for name in wanted if name not in known]
    if missing and part.needs_labels:
        raise UserError(
            f"{data_set}: {len(missing)} of {len(names)} images under "
            f"{os.path.join(top, part.images)} have no label under {folder}: {few(missing)}. "
            "Unpack the labels there, or remove the images that have none"
        )
    return [os.path.join(folder, name) if name in known else "" for name in wanted]


def _without(name: str, endings: Sequence[str]) -> str:
    ending = next(ending for ending in endings if name.lower().endswith(ending))
    return name[: -len(ending)]
