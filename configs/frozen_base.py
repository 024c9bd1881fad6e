"""What the methods on a frozen backbone (SmooSeg, STEGO) share: data, optimiser, evaluation.

The data geometry is that of both papers' released code: training images are cut into their four
corners and their centre, half as high and wide, brought to 224 on the shorter side and cropped in
the centre; test images are brought to 320. All by nearest neighbour, images as labels. There is no
augmentation, so that the backbone need look at each crop only once: `data.tokens` names a folder
that keeps its features.
"""

from ml_collections import ConfigDict, config_dict

from configs import infoseg_base


def frozen(clusters: int, batch_size: int, steps: int) -> ConfigDict:
    """Returns the shared sections; the method and the data set are to be named yet."""
    config = infoseg_base.infoseg(clusters)
    config.method = ConfigDict()
    config.data.update(
        {
            "batch_size": batch_size,
            "resize": 224,
            "crop": 224,
            "position": "centre",  # of the training crop; or "random"
            "flip": False,
            "interpolation": "nearest",  # as in the released code; or "bilinear"
            "five_crop": True,  # train on four corners and the centre of each image
            "tokens": "",  # folder that keeps the backbone's features; "" = computed in each step
            "partners": 0,  # neighbours of which one is drawn as a second view; 0 = no second view
            "test_resize": 320,
            "test_crop": 320,
        }
    )
    config.optim.groups = ConfigDict()  # fields that differ in a group of parameters, by its name
    config.train.epochs = 0
    config.train.steps = steps
    config.train.save_every = 1000
    return config


def evaluations(config: ConfigDict, name: str, clusters: int) -> ConfigDict:
    """Sets the evaluations: the method and k-means on what it builds on, with and without CRF."""

    def backbone_kmeans(**fields) -> ConfigDict:
        entry = infoseg_base.cluster_probe("trained", clusters, "spherical")
        return with_fields(entry, source="tokens", **fields)

    config.evals = ConfigDict(
        {
            name: evaluation(),
            f"{name}_crf": evaluation(refine="crf"),  # or "pamr"
            "backbone_kmeans": backbone_kmeans(),
            "backbone_kmeans_crf": backbone_kmeans(refine="crf"),
            "colour_kmeans": with_fields(
                infoseg_base.cluster_probe("colour", clusters, "euclidean"), source="features"
            ),
        }
    )
    return config


def evaluation(**fields) -> ConfigDict:
    """Returns an entry of `evals` that takes the largest of a method's own scores."""
    return with_fields(infoseg_base.evaluation(probe="argmax"), **{"source": "logits"} | fields)


def with_fields(entry: ConfigDict, **fields) -> ConfigDict:
    """Returns an entry of `evals` with the fields that say what is read and how it is scored."""
    defaults = {
        "refine": "none",  # or "crf", "pamr"
        "matching": "hungarian",  # or "identity", for scores that come from labels
    }
    entry.update(defaults | fields)
    return entry


def linear_probe(config: ConfigDict, classes: int) -> ConfigDict:
    """Trains a linear probe beside the method. It READS LABELS; the method never sees them."""
    config.method.online_probes = ConfigDict(
        {
            "classes": classes,
            "clusters": 0,  # centres of a cluster probe, which reads no labels; 0 = none
            "label": "class",
            "features": "features",  # or "tokens", the backbone's
        }
    )
    config.optim.groups.linear_probe = learning_rate(5e-3)
    config.evals.linear_probe_with_labels = evaluation(source="linear_probe", matching="identity")
    return config


def learning_rate(value: float) -> ConfigDict:
    """Returns an entry of `optim.groups` that differs in the learning rate alone."""
    return ConfigDict({"learning_rate": value})


def cocostuff27(config: ConfigDict) -> ConfigDict:
    """Sets the data: COCO-Stuff, 27 classes."""
    config.data.name = "cocostuff27"
    config.data.root = "data/coco"
    # The papers' list of training images is only in STEGO's data archive; name its file here to use
    # it. "curated7" is IIC's list, which is also the one of the validation images.
    config.data.train_list = "curated7"
    config.data.val_list = "curated7"
    config.data.images = "{split}2017"
    config.data.labels = "stuffthingmaps/{split}2017"
    config.data.lists_dir = "jaxseg-lists"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.check = "none"  # or "headers": look for damaged files at the start
    return config


def cityscapes27(config: ConfigDict) -> ConfigDict:
    """Sets the data: Cityscapes, 27 classes, 2,975 training and 500 test images."""
    config.data.name = "cityscapes27"
    config.data.root = "data/cityscapes"
    config.data.on_corrupt = "error"  # or "skip"
    return config


def potsdam3(config: ConfigDict) -> ConfigDict:
    """Sets the data: tiles of Potsdam, 3 classes, without infrared and without five crops."""
    config.data.name = "potsdam3"
    config.data.root = "data/potsdam"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.five_crop = False  # tiles of 200 x 200
    config.data.test_resize = 224  # the training script; the stand-alone evaluation takes 320
    config.data.test_crop = 224
    return config


def camvid(config: ConfigDict) -> ConfigDict:
    """Sets the data: CamVid, 11 classes, tested on whole images."""
    config.data.name = "camvid"
    config.data.root = "data/camvid"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.cache = True
    config.data.test_crop = 0  # whole images
    return config


def dubai(config: ConfigDict) -> ConfigDict:
    """Sets the data: aerial images of Dubai, 5 classes."""
    config.data.name = "dubai"
    config.data.root = "data/aerial_dubai"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.cache = True
    return config


def folder(config: ConfigDict) -> ConfigDict:
    """Sets the data: any tree of images."""
    config.data.name = "folder"
    config.data.root = ""  # your folder
    config.data.images = ""  # sub-folder of the images
    config.data.labels = ""  # sub-folder of label PNGs; "" = a_label.png beside a.jpg, if any
    config.data.split_list = ""  # text file with the names to use, one a line; "" = all
    config.data.class_names = ()  # names of the label values 0, 1, ...; () = labels are not read
    config.data.ignore = (255,)  # label values that no score counts
    config.data.on_corrupt = "error"  # or "skip"
    # "{split}" in images, labels or split_list stands for these; here both are the whole folder.
    config.data.train_split = "all"
    config.data.test_split = "all"
    config.data.test_crop = 0  # whole images
    return config


def scenes(config: ConfigDict) -> ConfigDict:
    """Sets the data: the embedded scenes, 8 classes."""
    config.data.name = "scenes"
    config.data.size = 224
    config.data.seed = 0
    config.data.count = config_dict.placeholder(int)  # images of a split; None = 2000 and 300
    config.data.five_crop = False
    config.data.cache = True
    config.data.test_resize = 0
    config.data.test_crop = 224
    return config


def tiny(config: ConfigDict) -> ConfigDict:
    """Makes it fit two CPU cores: ViT-Tiny/16, supervised on ImageNet, with 20 x 20 cells."""
    config.method.backbone = "vit_tiny_16"
    config.data.resize = 320
    config.data.crop = 320
    config.data.test_pad_multiple = 16  # of whole images: a patch
    return config
