"""What the HSG and SegSort configs share, with every field of the methods and what it means.

Network, views, schedule and weights of the loss are those of Ke et al. 2022 and its released code:
SGD with the learning rate inside the momentum, falling to a tenth at 32, 56 and 75 % of training, a
warm-up of 100 steps, biases at twice the rate and without decay. Retrieval (k nearest segments of
the labelled training images) is the paper's protocol; the cluster probe beside it is scored without
labels in the bank, as the other methods are, and the two are never compared.
"""

from ml_collections import ConfigDict

from configs import frozen_base, infoseg_base, segment_evals


def hsg(classes: int) -> ConfigDict:
    """Returns the paper's network and schedule; data of `classes` classes is to be named yet."""
    config = _from_segments("hsg", classes)
    config.method.update(
        {
            "grouping_weights": "",  # transformers (or the fine one), as "weights"; "" = as drawn
            "sizes": (8, 4),  # groups of each level, fine to coarse
            "heads": 4,  # of the transformers' attention
            "hidden": 256,  # features inside their feed-forward layers
            "layers": (2, 2),  # of encoder and decoder
            "dropout": 0.1,
            "positions": 50,  # side of the position tables, in cells
            "trained_cells": 28,  # side of a training view's map: data.crop / train_stride
            "grouper": "transformer",  # or "kmeans", "ncut", "finch": table 4
            "region_weight": 1.0,  # λE
            "level_weight": 0.1,  # λF
            "grouping_weight": 1.0,  # λG
            "neighbours": 2,  # k of the graph
            "graph": "views",  # k in each view; or "image", over all views
            "norm": "batch",  # or "layer"
            "masked_norm": True,  # False = statistics of empty slots too, as released
            "masked_std": "valid",  # or "code", the released slip
            "collapse_count": "valid",  # or "padded", as released
        }
    )
    return config


def segsort(classes: int) -> ConfigDict:
    """Returns SegSort with HSG's network and schedule, on one view whose segments are regions."""
    config = _from_segments("segsort", classes)
    config.method.grid = (1, 1)
    config.data.views = 1
    return config


def _from_segments(name: str, classes: int) -> ConfigDict:
    """Returns the sections that both methods share."""
    config = infoseg_base.infoseg(classes)
    config.method = ConfigDict(
        {
            "name": name,
            "weights": "",  # file written by jaxseg.convert; "" = from scratch
            "online_probes": None,  # probes trained beside it; see frozen_base.linear_probe
            "backbone": "resnet50",  # or "resnet34", "resnet18", "resnet18_slim"
            "head": "fcn",  # or "psp"
            "train_stride": 16,  # pixels along a cell of the network's map; 32, 16 or 8
            "test_stride": 8,
            "cell": 0,  # pixels along a cell of the features; 0 = the strides. 8: the predecessor's
            "dim": 128,  # D, features of a pixel
            "grid": (4, 4),  # rows and columns of the k-means' start in training
            "test_grid": (6, 6),  # in inference
            "rounds": 15,  # of the k-means
            "slots": 256,  # S, segments of an image with all its views
            "kappa": 16.0,  # the inverse temperature
            "segment_stride": 8,  # pixels a cell of the map that inference finds segments on
            "jitter": (0.4, 0.4, 0.4, 0.1),  # brightness, contrast, saturation, hue
            "jitter_share": 0.8,
            "grey_share": 0.2,
            "blur_share": 0.0,  # the paper lists a blur (0.5); the release has it off
            "dtype": "bfloat16",  # or "float32"
            "remat": False,  # True = less memory, more time
        }
    )
    config.data.update(
        {
            "views": 2,
            "crop": 448,
            "scale": (0.5, 1.5),
            "test_crop": 0,  # whole images
            "regions": "",  # folder of region maps, or "graph"; to be set
        }
    )
    config.optim.update(
        {
            "name": "sgd",
            "learning_rate": 0.1,
            "schedule": "steps",
            "warmup_steps": 100,
            "warmup_from": 0.1,
            "rate_in_momentum": True,
            "bias_rate": 2.0,
            "weight_decay": 1e-4,
            "decayed": "weights",
        }
    )
    return config


def weigh(config: ConfigDict, regions: float, levels: float, grouping: float) -> ConfigDict:
    """Sets λE, λF and λG."""
    config.method.region_weight = regions
    config.method.level_weight = levels
    config.method.grouping_weight = grouping
    return config


def _in_squares(config: ConfigDict) -> None:
    """Brings the longer side of test images to 512, in squares of 512."""
    config.data.test_resize = 512
    config.data.test_side = "longer"
    config.data.test_crop = 512


def coco(config: ConfigDict) -> ConfigDict:
    """Sets the data: images of COCO train2017, without labels."""
    config.data.name = "coco"
    config.data.root = "data/coco"
    config.data.images = "{split}2017"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.check = "none"  # or "headers": look for damaged files at the start
    config.data.regions = "data/coco/regions"
    _in_squares(config)
    config.evals = ConfigDict()  # there are no labels; see hsg_coco_voc.py
    return config


def coco_stage1(config: ConfigDict) -> ConfigDict:
    """Sets stage 1 on COCO: regions are the segments, and there is no grouping."""
    config.method.grid = (1, 1)
    config.data.crop = 224
    config.data.batch_size = 128
    config.train.epochs = 0
    config.train.steps = 350_000
    config.train.save_every = 2000
    if config.method.name == "hsg":
        config.method.trained_cells = 14
        weigh(config, regions=1.0, levels=0.0, grouping=0.0)
    return config


def coco_stage2(config: ConfigDict) -> ConfigDict:
    """Sets stage 2 on COCO: larger crops, groups, and transformers at ten times the rate."""
    config = coco(config)
    config.data.batch_size = 48
    config.optim.learning_rate = 0.008
    config.optim.groups = {"grouping": {"learning_rate": 0.08}}
    config.train.epochs = 0
    config.train.steps = 20_000
    config.train.init_from = "runs/hsg_coco_stage1"
    config.train.init_groups = ("backbone", "head", "extra")  # transformers from scratch
    return config


def evaluations(config: ConfigDict, classes: int, **fields) -> ConfigDict:
    """Sets the evaluations: retrieval, and k-means on the features, beside an untrained network.

    `fields` are those of the retrieval that differ.
    """
    name = config.method.name
    grid = {"grid": config.method.test_grid}
    config.evals = ConfigDict(
        {
            f"{name}_retrieval": segment_evals.retrieval(**grid, **fields),
            "untrained_retrieval": segment_evals.retrieval("untrained", **grid, **fields),
            f"{name}_kmeans": infoseg_base.cluster_probe("trained", classes, "spherical"),
            "untrained": infoseg_base.cluster_probe("untrained", classes, "spherical"),
            "colour_kmeans": infoseg_base.cluster_probe("colour", classes, "euclidean"),
        }
    )
    return config


def voc(config: ConfigDict) -> ConfigDict:
    """Sets the data: VOC 2012, the augmented training split and val, in squares of 512."""
    config.data.name = "voc12"
    config.data.root = "data/VOCdevkit/VOC2012"
    config.data.instances = False
    config.data.images = "JPEGImages"
    config.data.labels = "SegmentationClass"
    config.data.objects = "SegmentationObject"
    config.data.lists = "ImageSets/Segmentation"
    config.data.augmented = "SegmentationClassAug"
    config.data.sbd = "benchmark_RELEASE/dataset"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.check = "headers"  # look for damaged files at the start; or "none"
    config.data.train_split = "trainaug"
    _in_squares(config)
    config.data.regions = "graph"  # scoring a run reads none
    return evaluations(config, classes=21, resolution="original")


def voc_levels(config: ConfigDict) -> ConfigDict:
    """Sets what scores the levels of groups on VOC 2012, by the masks of its classes."""
    config = _nothing_learned(voc(config), split="val")
    regions = {"background": ("background",), "ignored": "dropped"}
    config.evals = ConfigDict(
        segment_evals.groupings(config.method.name, "levels", config.method.sizes, **regions)
    )
    return config


def densepose(config: ConfigDict) -> ConfigDict:
    """Sets what scores the levels of groups on DensePose-COCO, by people and parts of them."""
    config.data.name = "densepose"
    config.data.root = "data/coco"
    config.data.annotations = "annotations/densepose_coco_2014_{split}.json"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.check = "none"  # or "headers": look for damaged files at the start
    _in_squares(config)
    config = _nothing_learned(config, split="minival")
    regions = {"labels": ("class", "part", "instance")}
    config.evals = ConfigDict(
        segment_evals.groupings(config.method.name, "parts", config.method.sizes, **regions)
    )
    return config


def _nothing_learned(config: ConfigDict, split: str) -> ConfigDict:
    """Sets the split of an evaluation that learns and looks up nothing, and so needs no other."""
    config.data.train_split = split
    config.data.test_split = split
    config.data.regions = "graph"  # scoring a run reads none
    return config


def voc_imagenet(config: ConfigDict) -> ConfigDict:
    """Sets training on VOC from ImageNet weights, with the PSPNet's head."""
    config = voc(config)
    config.method.head = "psp"
    config.data.regions = "data/VOCdevkit/VOC2012/regions"
    config.data.batch_size = 16
    config.optim.learning_rate = 0.002
    config.optim.weight_decay = 5e-4
    config.train.epochs = 15
    return config


def street(config: ConfigDict) -> ConfigDict:
    """Sets what the street scenes share: a graph over both views, λG = 0.2, room for segments."""
    config.method.slots = 1024
    config.method.test_grid = (12, 24)
    if config.method.name == "hsg":
        config.method.neighbours = 4
        config.method.graph = "image"
        weigh(config, regions=1.0, levels=0.1, grouping=0.2)
    return config


def cityscapes(config: ConfigDict) -> ConfigDict:
    """Sets the data: Cityscapes, 19 classes, scored on whole frames."""
    config = street(config)
    config.data.name = "cityscapes19"
    config.data.root = "data/cityscapes"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.regions = "data/cityscapes/regions"
    config.data.batch_size = 32
    config.train.epochs = 0
    config.train.steps = 38_000
    return evaluations(config, classes=19)


def kitti_step(config: ConfigDict) -> ConfigDict:
    """Sets the data: KITTI-STEP, 19 classes, padded to multiples of 8 pixels."""
    config = street(config)
    config.method.test_grid = (6, 12)
    config.data.name = "kitti_step"
    config.data.root = "data/kitti_step"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.regions = "data/kitti_step/regions"
    config.data.batch_size = 48
    config.data.test_pad_multiple = 8
    config.train.epochs = 400
    return evaluations(config, classes=19)


def _short(config: ConfigDict, epochs: int, crop: int) -> ConfigDict:
    """Sets the schedule of COCO-Stuff and Potsdam."""
    config.data.batch_size = 8
    config.data.crop = crop
    config.optim.learning_rate = 0.003
    config.optim.weight_decay = 5e-4
    config.train.epochs = epochs
    if config.method.name == "hsg":
        config.method.trained_cells = -(-crop // 16)
        weigh(config, regions=1.0, levels=0.1, grouping=0.2)
    return config


def cocostuff15(config: ConfigDict) -> ConfigDict:
    """Sets the data: COCO-Stuff-15, the curated images of train and val."""
    config = _short(frozen_base.cocostuff27(config), epochs=5, crop=336)
    config.data.name = "cocostuff15"
    config.data.regions = "data/coco/regions"
    _in_squares(config)
    return evaluations(config, classes=15, resolution="original")


def potsdam(config: ConfigDict) -> ConfigDict:
    """Sets the data: tiles of Potsdam, 6 classes, without infrared."""
    config = _short(config, epochs=30, crop=200)
    config.data.name = "potsdam"
    config.data.root = "data/potsdam"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.regions = "data/potsdam/regions"
    config.data.train_split = "train"  # 7,695, of which 4,545 have labels
    config.data.test_split = "test"
    config.data.test_crop = 200
    return evaluations(config, classes=6)


def small(config: ConfigDict, crop: int) -> ConfigDict:
    """Makes it fit two CPU cores: a slim ResNet-18 from scratch, at a finer stride, with Adam."""
    config.method.backbone = "resnet18_slim"
    config.method.dim = 64
    config.method.train_stride = 8
    config.method.segment_stride = 2
    config.method.dtype = "float32"
    if config.method.name == "hsg":
        config.method.trained_cells = crop // 8
    config.data.batch_size = 16
    config.data.crop = crop
    config.data.regions = "graph"
    config.data.cache = True
    config.optim.update(
        {
            "name": "adam",
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_from": 0.0,
            "rate_in_momentum": False,
            "bias_rate": 1.0,
        }
    )
    config.train.epochs = 0
    config.train.steps = 400
    return config


def scenes(config: ConfigDict) -> ConfigDict:
    """Sets the data: the embedded scenes, at 128 pixels."""
    config = frozen_base.scenes(small(config, crop=128))
    config.method.slots = 128
    config.data.size = 128
    config.data.test_crop = 128
    probes = evaluations(config, classes=8).evals
    config = segment_evals.scenes(config, config.method.name, sizes=(8, 4))
    config.evals.update({name: probes[name] for name in probes if "retrieval" not in name})
    return config


def camvid(config: ConfigDict) -> ConfigDict:
    """Sets the data: CamVid, 11 classes, with the shorter side at 180 pixels."""
    config = small(frozen_base.camvid(config), crop=160)
    config.data.resize = 180
    config.data.test_resize = 180
    evaluations(config, classes=11)
    config.evals.colour_retrieval = segment_evals.retrieval("colour", grid=config.method.test_grid)
    return config


def folder(config: ConfigDict) -> ConfigDict:
    """Sets the data: any tree of images, whose labels, if there are any, only score."""
    config = small(frozen_base.folder(config), crop=160)
    config.data.cache = False  # True keeps the decoded images, three bytes a pixel, in memory
    config.data.resize = 180
    config.data.test_resize = 180
    probes = evaluations(config, classes=8).evals
    config.evals = ConfigDict({name: probes[name] for name in probes if "retrieval" not in name})
    if config.method.name == "hsg":
        config.evals.hsg_levels = segment_evals.hierarchy()
    return config
