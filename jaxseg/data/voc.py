"""Pascal VOC 2012 segmentation: 20 classes of objects and background; the augmented training set.

Everingham et al. 2012; Hariharan et al. 2011 (SBD) labelled the images that VOC did not. Layout,
that of VOCtrainval_11-May-2012.tar, whose folder VOCdevkit/VOC2012 is the root:

    root/JPEGImages/<id>.jpg
    root/SegmentationClass/<id>.png         palette PNG, index = class; 255 = void
    root/SegmentationObject/<id>.png        palette PNG, index = number of the object, from 1
    root/ImageSets/Segmentation/<split>.txt one id a line: train 1,464, val 1,449, trainval 2,913

For the split "trainaug" (10,582 images: VOC's training images and those of SBD, without VOC's
validation images) one of the two forms in which the labels of SBD go round:

    root/SegmentationClassAug/<id>.png      PNGs of all labels in one folder
    root/benchmark_RELEASE/dataset/         the archive of SBD: cls/<id>.mat, inst/<id>.mat,
                                            train.txt, val.txt
"""

import dataclasses
import os

import numpy as np
import scipy.io

from jaxseg.core import UserError
from jaxseg.data.folder import few, is_there
from jaxseg.data.images import Unreadable, read_label
from jaxseg.data.labelled import Labelled, checked, list_folder, open_root

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
VOID = 255

# METHODS 1.2; "trainaug" is HSG's memory bank, "val" its queries.
EXPECTED: dict[str, dict[str, int]] = {
    "voc12": {"train": 1_464, "val": 1_449, "trainval": 2_913, "trainaug": 10_582}
}

AUGMENTED = "trainaug"

_REMEDY = (
    "Unpack VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; "
    "data.root is its folder VOCdevkit/VOC2012"
)
_AUGMENTED_REMEDY = (
    "Put the folder SegmentationClassAug there (its place: data.augmented), or unpack the archive "
    "of SBD, benchmark.tgz, there (its place: data.sbd)"
)


@dataclasses.dataclass(frozen=True)
class VocReader:
    """Reads the label "class" from a PNG or an SBD .mat, and "instance" where that is asked for.

    Raises `Unreadable` for a damaged file and UserError for a value other than a class or void.
    """

    labels: tuple[str, ...]
    objects: tuple[str, ...]  # "" = the image has none; () = not asked for

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        path = self.labels[index]
        if path.endswith(".mat"):
            label = _checked(read_sbd(path, "GTcls"), path)
        else:
            label = read_label(path, len(CLASSES), (VOID,))
        if not self.objects:
            return {"class": label}
        return {"class": label, "instance": self._objects(index, label)}

    def _objects(self, index: int, label: np.ndarray) -> np.ndarray:
        path = self.objects[index]
        if not path:
            return np.full_like(label, -1)
        # Background (0) becomes -1, as void does.
        numbers = read_sbd(path, "GTinst") if path.endswith(".mat") else read_label(path)
        return np.where(numbers == VOID, -1, numbers - 1).astype(np.int32)


def read_sbd(path: str, variable: str) -> np.ndarray:
    """Returns the map i32[H W] of an SBD file: `variable` is "GTcls" (cls/) or "GTinst" (inst/).

    Raises `Unreadable` if the file is missing, damaged, or has no such map.
    """
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
        stored = np.asarray(content[variable]["Segmentation"][0, 0])
    except Exception as error:  # SciPy's reader raises a dozen kinds for a damaged file
        raise Unreadable(
            f"cannot read label {path}: expected the MATLAB structure {variable} of SBD "
            f"({type(error).__name__}: {error})"
        ) from error
    if stored.ndim != 2 or stored.dtype.kind not in "iu":
        raise Unreadable(
            f"cannot read label {path}: {variable}.Segmentation is {stored.dtype}"
            f"{list(stored.shape)}, expected integers [H, W]"
        )
    return stored.astype(np.int32)


def _checked(label: np.ndarray, path: str) -> np.ndarray:
    label = np.where(label == VOID, -1, label).astype(np.int32)
    if label.min() < -1 or label.max() >= len(CLASSES):
        wrong = label[(label < -1) | (label >= len(CLASSES))]
        raise UserError(
            f"label {path} holds the value {wrong[0]}, in {len(wrong)} pixels with the like; "
            f"expected 0 to {len(CLASSES) - 1}, or {VOID} (void)"
        )
    return label


def open_voc12(
    root: str,
    split: str,
    instances: bool = False,
    images: str = "JPEGImages",
    labels: str = "SegmentationClass",
    objects: str = "SegmentationObject",
    lists: str = "ImageSets/Segmentation",
    augmented: str = "SegmentationClassAug",
    sbd: str = "benchmark_RELEASE/dataset",
    on_corrupt: str = "error",
    check: str = "headers",
) -> Labelled:
    """Opens VOC 2012; label "class": 0 background, 1 to 20 objects, void -1.

    "trainaug" is the list `lists`/trainaug.txt if there is one; else all labels of `augmented`, or
    else VOC's training images and the lists of `sbd`, without VOC's validation images. An image's
    label is looked for in `augmented`, `labels`, and `sbd`, in this order; the other splits take
    that of `labels`.

    Args:
      root: the folder VOC2012.
      split: "train", "val", "trainval", "trainaug", or the name of another list in `lists`.
      instances: add the label "instance", the number of the object; -1 for background, void, and
        everywhere in images without object maps.
      images, labels, objects, lists, augmented, sbd: folders below `root`.
      on_corrupt: "error" or "skip", as in `open_folder`.
      check: "headers" or "none": look for damaged files at the start; see `labelled.checked`.

    Raises:
      UserError: a folder, a list, an image or a label is missing, a list is empty, or what
        `Labelled` and `VocReader` raise.
    """
    places = {images: "<id>.jpg", labels: "<id>.png"}
    if split != AUGMENTED:
        places[f"{lists}/{split}.txt"] = "one id a line"
    top = open_root("voc12", root, split, places, _REMEDY)
    place = Places(top, images, labels, objects, lists, augmented, sbd)
    ids = place.augmented_ids() if split == AUGMENTED else place.listed(split)
    folders = [(labels, ".png")]
    if split == AUGMENTED:
        folders = [(augmented, ".png"), *folders, (f"{sbd}/cls", ".mat")]
    names = place.find(ids, [(images, ".jpg")], _REMEDY)
    files = place.find(ids, folders, _AUGMENTED_REMEDY if split == AUGMENTED else _REMEDY)
    paths = tuple(os.path.join(top, name) for name in files)
    classes: dict[str, tuple[str, ...]] = {"class": CLASSES}
    found: tuple[str, ...] = ()
    if instances:
        classes["instance"] = ()
        kinds = [(objects, ".png"), (f"{sbd}/inst", ".mat")]
        found = tuple(name and os.path.join(top, name) for name in place.find(ids, kinds))
    source = Labelled(
        top,
        names,
        paths,
        classes,
        on_corrupt=on_corrupt,
        reader=VocReader(paths, found),
    )
    return checked(source, check)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things lie below `top`."""

    top: str
    images: str
    labels: str
    objects: str
    lists: str
    augmented: str
    sbd: str

    def listed(self, split: str) -> tuple[str, ...]:
        """Returns the ids of a list of VOC."""
        return self._read(f"{self.lists}/{split}.txt")

    def augmented_ids(self) -> tuple[str, ...]:
        """Returns the ids of the augmented training set, sorted unless they are listed."""
        if is_there(os.path.join(self.top, self.lists, f"{AUGMENTED}.txt")):
            return self.listed(AUGMENTED)
        held_out = set(self.listed("val"))
        if folder := self._stems(self.augmented, ".png"):
            return tuple(sorted(folder - held_out))
        if self._stems(f"{self.sbd}/cls", ".mat"):
            ours = {*self._read(f"{self.sbd}/train.txt"), *self._read(f"{self.sbd}/val.txt")}
            return tuple(sorted(ours.union(self.listed("train")) - held_out))
        raise UserError(
            f"voc12, split {AUGMENTED!r}: neither {self.augmented}/<id>.png nor "
            f"{self.sbd}/cls/<id>.mat is in data.root {self.top}. {_AUGMENTED_REMEDY}"
        )

    def find(
        self, ids: tuple[str, ...], folders: list[tuple[str, str]], remedy: str = ""
    ) -> tuple[str, ...]:
        """Returns the file of each id, below `top`, in the first of (folder, suffix) that has it.

        Where none has it: "", or, with a remedy, UserError.
        """
        stems = {(folder, suffix): self._stems(folder, suffix) for folder, suffix in folders}
        found = []
        for name in ids:
            there = (f"{k[0]}/{name}{k[1]}" for k, members in stems.items() if name in members)
            found.append(next(there, ""))
        if remedy and not all(found):
            missing = [name for name, file in zip(ids, found, strict=True) if not file]
            places = " nor ".join(f"{folder}/<id>{suffix}" for folder, suffix in folders)
            raise UserError(
                f"voc12: {len(missing)} of {len(ids)} listed images have no {places} in data.root "
                f"{self.top}: {few(missing)}. {remedy}"
            )
        return tuple(found)

    def _stems(self, folder: str, suffix: str) -> set[str]:
        names = list_folder(os.path.join(self.top, folder))
        return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}

    def _read(self, name: str) -> tuple[str, ...]:
        path = os.path.join(self.top, name)
        try:
            with open(path, encoding="utf-8-sig") as file:
                ids = tuple(dict.fromkeys(line.strip() for line in file if line.strip()))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"voc12: cannot read the list {path}: {error}. {_REMEDY}") from error
        if not ids:
            raise UserError(f"voc12: the list {path} is empty; expected one id a line. {_REMEDY}")
        return ids
