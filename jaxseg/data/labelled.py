"""Images of an official release with the labels that a function makes of its annotations."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.folder import Folder, by, check_files, is_there
from jaxseg.data.images import read_image
from jaxseg.data.source import Example

CHECKS = ("headers", "none")


class LabelReader(Protocol):
    """Makes the label maps i32[H W] of image `index`, by kind; -1 = ignored.

    Raises `Unreadable` for a damaged file, `UserError` for one that holds what it should not.
    """

    def __call__(self, index: int) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class Labelled(Folder):
    """A `Folder` whose labels, of any kinds and encoding, are made by `reader`.

    `names` are paths below `root`; `labels` are the label files, or () where labels are no files.
    Images are read as they are stored, whatever their EXIF says: annotations of such releases count
    stored pixels. The rest is as in `Folder`.

    Raises:
      UserError: what `Folder` raises, or a label of another size than its image.
    """

    reader: LabelReader | None = None

    def _read(self, index: int, is_standin: bool) -> Example:
        path = os.path.join(self.root, self.names[index])
        image = read_image(path, self.channels, upright=False)
        if not self.classes or self.reader is None:
            return Example(image=image, name=self.names[index])
        if is_standin:
            label = {kind: np.full(image.shape[:2], -1, np.int32) for kind in self.classes}
        else:
            label = self.reader(index)
        for kind, values in label.items():
            if values.shape != image.shape[:2]:
                raise UserError(
                    f"the {kind} label of {path} is {by(values.shape)} and the image "
                    f"{by(image.shape)} (height x width); expected one size. One of the two is of "
                    "another release or was resized: download both again"
                )
        return Example(image=image, label=label, name=self.names[index])


def checked(source: Labelled, check: str) -> Labelled:
    """Returns the source with its damaged files found, if `check` (of the config) is "headers".

    That takes about 0.2 ms an image and 0.1 ms a label on a fast local disk, and a seek each on a
    slow one; with "none", a damaged file is found when it is read.
    Raises UserError for another `check`, and what `check_files` raises.
    """
    if check not in CHECKS:
        raise UserError(f"data.check is {check!r}; expected one of {', '.join(CHECKS)}")
    if source.on_corrupt not in ("error", "skip"):
        raise UserError(f"data.on_corrupt is {source.on_corrupt!r}; expected 'error' or 'skip'")
    if check == "none":
        return source
    return dataclasses.replace(source, bad=check_files(source))


def open_root(data_set: str, root: str, split: str, places: Mapping[str, str], remedy: str) -> str:
    """Returns the absolute path of `data.root`, in which all `places` are.

    Args:
      data_set: its name, for messages.
      split: what the places were made for.
      places: what is expected to be there: path below the root (a file or a folder) -> what it is.
      remedy: how to get there.

    Raises:
      UserError: `root` is empty or no folder, or a place is missing; the message says all that is
        expected.
    """
    if not root:
        raise UserError(f"{data_set}: data.root is empty; set it to the folder of the data set")
    top = os.path.abspath(os.path.expanduser(root))
    missing = [place for place in places if not is_there(os.path.join(top, place))]
    if missing:
        expected = "; ".join(f"{place} ({what})" for place, what in places.items())
        found = f"no {' nor '.join(missing)} in" if os.path.isdir(top) else "there is no folder"
        raise UserError(
            f"{data_set}, split {split!r}: {found} data.root {top}. Expected {expected}. {remedy}"
        )
    return top


def list_folder(path: str) -> frozenset[str]:
    """Returns the names in a folder, none if there is no such folder.

    Raises UserError if it cannot be listed.
    """
    try:
        return frozenset(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise UserError(f"cannot list {path}: {error.strerror}. Mend its permissions") from error


def split_parts(split: str) -> list[str]:
    """Returns the parts of a split such as "train+val", which is both, one after the other.

    Raises UserError for a split or a part without a name, or a part named twice.
    """
    parts = split.split("+")
    if not all(parts) or len(set(parts)) < len(parts):
        raise UserError(
            f"the split is {split!r}; expected a name such as 'train', or several different ones "
            "joined by '+', such as 'train+val'"
        )
    return parts
