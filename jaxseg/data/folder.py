"""A folder of photographs as a source: any tree of image files, with label maps if there are any.

Labels lie in one of two places. With `labels`, in a folder that mirrors the tree: the label of
`street/a.jpg` is `<labels>/street/a.png`. Without, beside the image: `street/a_label.png`; such
files are then not taken as images. Labels are indexed or greyscale PNGs of class ids.

Names are paths relative to the image folder, with "/" between the parts.
"""

import dataclasses
import os
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from jaxseg.core import UserError
from jaxseg.data.fingerprint import digest, of_files
from jaxseg.data.images import (
    SUFFIXES,
    Unreadable,
    check_headers,
    find_files,
    read_image,
    read_label,
)
from jaxseg.data.source import Example

LABEL_ENDING = "_label.png"

_SHOWN = 5  # how many names a message lists


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images of a folder, in the order of their names, with their labels; made by `open_folder`.

    `source[i]` reads the image u8[H W Ch] and, under "class", its label i32[H W]; -1 = ignored. An
    image without a label file, in a folder where others have one, gets a label of -1 everywhere.
    A copy made with `dataclasses.replace(source, classes={})` reads no labels.

    With on_corrupt="skip", an index whose image or label cannot be read gives the next image that
    can (cyclically), its label -1 everywhere, so that no score counts that image twice. The length
    and the index of every good image stay as they are.

    Raises:
      UserError: a file cannot be read (on_corrupt="error"), or none can; a label has another size
        than its image or a value outside the classes.
    """

    root: str
    names: tuple[str, ...]
    labels: tuple[str, ...]  # the label file of each image; "" = it has none; () = no labels at all
    classes: dict[str, tuple[str, ...]]
    ignore: tuple[int, ...] = (255,)
    on_corrupt: str = "error"
    channels: int = 3
    bad: frozenset[int] = frozenset()  # indices whose files failed the check of headers
    # Reads a label file into i32[H W]; None = ids as they are, those in `ignore` -1.
    decode: Callable[[str], np.ndarray] | None = None
    rule: str = ""  # how the list of images came about; "" = it is all the files
    # Files found damaged while reading, so that each is logged once in a process.
    _logged: set[str] = dataclasses.field(default_factory=set, compare=False, repr=False)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that failed the check of headers and are replaced by others."""
        return tuple(self.names[index] for index in sorted(self.bad))

    @property
    def fingerprint(self) -> str:
        """Of the image files and of how they are read; labels change no image."""
        # The type, for one that derives from this may read images otherwise.
        read = type(self).__name__, self.channels, of_files(self.root, self.names)
        if self.on_corrupt == "error":
            return digest(*read)
        # A label that cannot be read also has the next image take the place of its own.
        labels = of_files("", self.labels) if self.classes else ""
        return digest(*read, sorted(self.bad), labels)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        wanted = range(len(self))[index]
        for step in range(len(self)):
            actual = (wanted + step) % len(self)
            if actual in self.bad:
                continue
            try:
                return self._read(actual, is_standin=step > 0)
            except Unreadable as error:
                if self.on_corrupt == "error":
                    raise UserError(
                        f"{error}. Mend or remove the file, or set data.on_corrupt='skip' to use "
                        "the next image in its place"
                    ) from error
                self._log_once(actual, error)
        raise UserError(f"none of the {len(self)} images under {self.root} can be read")

    def stored(self, index: int) -> bytes | None:
        """Returns the bytes of image file `index`, None where it cannot be read."""
        try:
            with open(os.path.join(self.root, self.names[index]), "rb") as file:
                return file.read()
        except OSError:
            return None

    def _read(self, index: int, is_standin: bool) -> Example:
        path = os.path.join(self.root, self.names[index])
        image = read_image(path, self.channels)
        if not self.classes:
            return Example(image=image, name=self.names[index])
        label = np.full(image.shape[:2], -1, np.int32)
        if self.labels[index] and not is_standin:
            label = self._read_label(self.labels[index])
        if label.shape != image.shape[:2]:
            raise UserError(
                f"label {self.labels[index]} is {by(label.shape)} and its image {path} is "
                f"{by(image.shape)} (height x width, EXIF orientation applied); expected one "
                "size. Export the label again from the image at its full size"
            )
        return Example(image=image, label={"class": label}, name=self.names[index])

    def _read_label(self, path: str) -> np.ndarray:
        if self.decode is not None:
            return self.decode(path)
        return read_label(path, len(self.classes["class"]), self.ignore)

    def _log_once(self, index: int, error: Unreadable) -> None:
        if self.names[index] not in self._logged:
            self._logged.add(self.names[index])
            logging.warning("data.on_corrupt='skip': the next image is used instead: %s", error)


def open_folder(
    root: str,
    split: str = "",
    images: str = "",
    labels: str = "",
    split_list: str = "",
    class_names: Sequence[str] = (),
    ignore: Sequence[int] = (255,),
    on_corrupt: str = "error",
    channels: int = 3,
) -> Folder:
    """Lists the images under `root`/`images`, pairs them with labels, and checks every header.

    Symbolic links are followed, except into a folder that is being listed already; hidden files
    (".name") are left out. The order is that of the names, whatever the file system's.

    Args:
      root: folder of the data set; `images`, `labels` and `split_list` are relative to it.
      split: name of the split; it takes the place of "{split}" in `images`, `labels` and
        `split_list`, as in images="images/{split}". Where none has it, a split is all the images.
      images: sub-folder of the images; "" = `root` itself.
      labels: folder of label PNGs that mirrors the images; "" = labels beside them (`a_label.png`).
      split_list: UTF-8 text file of the names to use, one a line, with or without the suffix; blank
        lines and lines that start with "#" do not count, nor does the order. "" = all.
      class_names: names of the label values 0, 1, ...; without them, labels beside the images are
        not read.
      ignore: label values that become -1.
      on_corrupt: "error" or "skip": what to do about files that cannot be read.
      channels: 3 (RGB) or 4 (RGB and infrared; see `images.read_image`).

    Raises:
      UserError: a folder or list is missing, unreadable or empty; a listed name or a label is
        missing; files are damaged (with "error", or all of them); sizes differ; `labels` is given
        without `class_names`.
    """
    if labels and not class_names:
        raise UserError(
            f"data.labels is {labels!r} but data.class_names is empty; name the classes in the "
            "order of the label values 0, 1, ..., or leave data.labels empty to do without labels"
        )
    if not root:
        raise UserError("data.root is empty; set it to the folder that holds the images")
    images, labels, split_list = (
        text.replace("{split}", split) for text in (images, labels, split_list)
    )
    top = os.path.abspath(os.path.expanduser(root))
    require_folder(top, "data.root")
    image_root = _sub_folder(top, images, "data.images")
    label_root = _sub_folder(top, labels, "data.labels") if labels else ""
    if label_root == image_root:
        raise UserError(
            f"data.labels is the folder of the images, {image_root}; keep the labels in another "
            f"folder, or name them a{LABEL_ENDING} beside a.jpg and leave data.labels empty"
        )
    names, beside = _list_images(image_root, label_root)
    rule = f"the images that the list {split_list} names" if split_list else ""
    if split_list:
        names = select(names, os.path.join(top, split_list), image_root)
    found = mirrored(names, label_root) if label_root else _beside(names, beside, image_root)
    if not label_root and found and not class_names:
        logging.warning(
            "%s: %d files *%s are not read: data.class_names is empty",
            image_root, sum(map(bool, found)), LABEL_ENDING,
        )  # fmt: skip
        found = ()
    if class_names and not found:
        raise UserError(
            f"data.class_names is given, but no image under {image_root} has a label: looked for "
            f"a{LABEL_ENDING} beside a.jpg. Add labels, name their folder in data.labels, or leave "
            "data.class_names empty"
        )
    classes = {"class": tuple(class_names)} if found else {}
    return checked(
        Folder(image_root, names, found, classes, tuple(ignore), on_corrupt, channels, rule=rule)
    )


def checked(folder: Folder) -> Folder:
    """Returns the folder with `bad` set, after a check of every header.

    Raises:
      UserError: `on_corrupt` or `channels` is none of the values that `open_folder` takes; files
        are damaged (with on_corrupt="error", or all of them); a label has another size.
    """
    if folder.on_corrupt not in ("error", "skip"):
        raise UserError(f"data.on_corrupt is {folder.on_corrupt!r}; expected 'error' or 'skip'")
    if folder.channels not in (3, 4):
        raise UserError(
            f"data.channels is {folder.channels}; expected 3 (RGB) or 4 (with infrared)"
        )
    return dataclasses.replace(folder, bad=check_files(folder))


def is_there(path: str) -> bool:
    """Tells whether there is such a file or folder; raises UserError where permissions hide it."""
    try:
        os.stat(path)
    except PermissionError as error:
        folder = os.path.dirname(os.path.abspath(path))
        while not os.path.exists(folder):
            folder = os.path.dirname(folder)
        raise UserError(
            f"no permission to look for {path}: {folder} cannot be entered. Ask its owner, or run "
            "chmod u+rx"
        ) from error
    except OSError:
        return False
    return True


def is_folder(path: str) -> bool:
    """As `is_there`, of a folder."""
    return is_there(path) and os.path.isdir(path)


def require_folder(path: str, field: str) -> None:
    """Raises UserError unless `path` is a folder that can be listed."""
    if not is_there(path):
        raise UserError(f"{field}: there is no folder {path}. Check the path, or create it")
    if not os.path.isdir(path):
        raise UserError(f"{field}: {path} is a file; expected a folder of images")
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=effective):
        raise UserError(f"{field}: no permission to list {path}. Ask its owner, or run chmod u+rx")


def _sub_folder(top: str, name: str, field: str) -> str:
    path = os.path.normpath(os.path.join(top, name))
    require_folder(path, field)
    return path


def _list_images(image_root: str, label_root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the sorted names of the images, and of the labels beside them."""
    # A label folder inside the image folder holds no images.
    files = find_files(image_root, leave=(label_root,) if label_root else ())
    beside = () if label_root else tuple(n for n in files if n.lower().endswith(LABEL_ENDING))
    are_labels = set(beside)
    names = tuple(name for name in files if name not in are_labels)
    if not names:
        aside = f"; {len(beside)} files *{LABEL_ENDING} are labels" if beside else ""
        raise UserError(
            f"no images under {image_root}: looked in all its sub-folders for files ending in "
            f"{', '.join(SUFFIXES)} (upper or lower case){aside}. Check data.root and data.images, "
            "or convert the images to one of these kinds"
        )
    return names, beside


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def select(
    names: tuple[str, ...], path: str, image_root: str, field: str = "data.split_list"
) -> tuple[str, ...]:
    """Returns the names that the list file of a config field asks for, sorted.

    Raises UserError if the file cannot be read, is empty, or asks for an image that is not there.
    """
    # One accented letter has two spellings in Unicode; lists and file systems mix them.
    known: dict[str, set[str]] = {}
    for name in names:
        for key in (name, _stem(name)):
            known.setdefault(unicodedata.normalize("NFC", key), set()).add(name)
    wanted = [unicodedata.normalize("NFC", line) for line in _list_lines(path, field)]
    missing = [line for line in wanted if line not in known]
    if missing:
        raise UserError(
            f"{field} {path}: {len(missing)} of its {len(wanted)} names are not among the "
            f"{len(names)} images under {image_root}: {few(missing)}. Names are relative to that "
            "folder, with or without the suffix; correct the list or data.images"
        )
    twofold = [line for line in wanted if len(known[line]) > 1]
    if twofold:
        raise UserError(
            f"{field} {path}: several images have the name {twofold[0]} "
            f"({', '.join(sorted(known[twofold[0]]))}); write the suffix in the list"
        )
    return tuple(sorted({name for line in wanted for name in known[line]}))


def _list_lines(path: str, field: str) -> list[str]:
    """Returns the names in a split list."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip().removeprefix("./") for line in file]
    except OSError as error:
        raise UserError(f"{field}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{field}: {path} is not UTF-8 text ({error}); save it as UTF-8, a name a line"
        ) from error
    wanted = [line for line in lines if line and not line.startswith("#")]
    if not wanted:
        raise UserError(f"{field}: {path} names no image; expected one name a line")
    return wanted


def mirrored(
    names: tuple[str, ...], label_root: str, field: str = "data.split_list"
) -> tuple[str, ...]:
    """Returns the label file of every image, from the label folder.

    Raises UserError for images without one; `field` could name a list of those that have.
    """
    files = {_stem(name): name for name in find_files(label_root, (".png",))}
    missing = [name for name in names if _stem(name) not in files]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} images have no label under {label_root}: "
            f"{few([_stem(name) + '.png' for name in missing])}. Add them, or name the labelled "
            f"images in {field}"
        )
    return tuple(os.path.join(label_root, files[_stem(name)]) for name in names)


def _beside(names: tuple[str, ...], beside: tuple[str, ...], image_root: str) -> tuple[str, ...]:
    """Returns the label file beside every image, "" where there is none; () if none has one."""
    files = {name[: -len(LABEL_ENDING)]: os.path.join(image_root, name) for name in beside}
    found = tuple(files.get(_stem(name), "") for name in names)
    if not any(found):
        return ()
    if not all(found):
        logging.warning(
            "%s: %d of %d images have no label *%s; they count as ignored everywhere",
            image_root, sum(not label for label in found), len(found), LABEL_ENDING,
        )  # fmt: skip
    return found


def check_files(folder: Folder) -> frozenset[int]:
    """Checks the headers of all images and labels; returns the indices that cannot be read.

    Labels that are no images, such as MATLAB's files, have no header to check.
    """
    total = len(folder)
    images = check_headers([os.path.join(folder.root, name) for name in folder.names])
    labelled = [
        index for index, label in enumerate(folder.labels) if label.lower().endswith(SUFFIXES)
    ]
    labels = check_headers([folder.labels[index] for index in labelled])
    problems = {index: found for index, found in enumerate(images) if isinstance(found, Unreadable)}
    unlike = []
    for index, found in zip(labelled, labels, strict=True):
        if isinstance(found, Unreadable):
            problems.setdefault(index, found)
        elif index not in problems and found != images[index]:
            unlike.append(index)
    _check_unlike(folder, unlike)
    if not problems:
        return frozenset()
    listing = "".join(f"\n  {problems[index]}" for index in sorted(problems)[:_SHOWN])
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    summary = (
        f"{len(problems)} of {total} images under {folder.root} cannot be read:{listing}{more}"
    )
    if folder.on_corrupt == "error" or len(problems) == total:
        raise UserError(
            f"{summary}\nMend or remove these files, or set data.on_corrupt='skip' to use the next "
            "good image in the place of each"
        )
    logging.warning("data.on_corrupt='skip': the next good image is used instead: %s", summary)
    return frozenset(problems)


def _check_unlike(folder: Folder, indices: Sequence[int]) -> None:
    """Reads the examples whose headers state two sizes; raises UserError for the first few."""
    # A header may state an orientation that only the decoder settles: reading decides.
    errors: list[str] = []
    for index in indices:
        try:
            folder[index]
        except UserError as error:
            errors.append(str(error))
        if len(errors) == _SHOWN:
            errors.append(f"In all, {len(indices)} of {len(folder)} headers state two sizes")
            break
    if errors:
        raise UserError("\n".join(errors))


def few(names: Sequence[str]) -> str:
    """Returns the first names of a list and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def by(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
