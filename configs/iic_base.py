"""What the IIC configs share, with every field of the method and what it means.

The values are those of the released code of Ji et al. 2019: Adam, no decay. It has nominal 4,800
epochs of two passes, one for each head, and reports the best epoch, a choice by labels; these
configs count passes in `train.epochs` and keep the last state. On COCO the released code leaves
pixels of other classes out of the loss, by their labels: `method.labels_choose_pixels`, off here.
"""

from ml_collections import ConfigDict

from configs import infoseg_base


def iic(clusters: int, overclusters: int, batch_size: int, images: int) -> ConfigDict:
    """Returns the paper's network for `clusters` classes; data is to be named yet.

    Args:
        images: in the training split, which says how many steps a pass has.
    """
    config = infoseg_base.infoseg(clusters)
    config.method = ConfigDict(
        {
            "name": "iic",
            "weights": "",  # of network "fpn": file written by jaxseg.convert; "" = from scratch
            "online_probes": None,  # probes trained beside it; see frozen_base.linear_probe
            "clusters": clusters,  # K_B
            "overclusters": overclusters,  # K_A, of the other head
            "steps_per_pass": images // batch_size,  # set it anew for another number of images
            "network": "vgg",  # or "res12", "fpn"
            "widths": (64, 128, 256, 256, 512, 512),  # channels of "vgg"
            "stem": 64,  # channels after the stem of "res12"
            "backbone": "resnet18",  # of "fpn"
            "dim": 128,  # of "fpn"
            "fpn": "code",  # of "fpn"; or "paper"
            "sobel": True,  # derivatives of the grey image as channels; not with "fpn"
            "jitter": (0.4, 0.4, 0.4, 0.125),  # brightness, contrast, saturation, hue
            "displacement": 10,  # T, largest shift in pixels
            "sparse": (0, 0),  # random shift of the copy's map, from and to; (0, 0) = none
            "lam_a": 1.0,  # lambda of head A
            "lam_b": 1.0,  # lambda of head B
            "collapsed": False,  # sum the shifts first
            "labels_choose_pixels": False,  # READS LABELS, as released for COCO
            "label": "class",  # of labels_choose_pixels
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.data.batch_size = batch_size
    config.data.flip = False  # the copy is mirrored, on the device
    config.train.epochs = 9600  # passes: 4,800 of either head
    config.evals.iic = infoseg_base.evaluation(probe="argmax")
    del config.evals.infoseg
    return config


def coco(config: ConfigDict) -> ConfigDict:
    """Sets IIC's geometry on COCO: a third of the size, zeros around what is smaller than 128."""
    config.data.resize = 0
    config.data.scale = (0.33, 0.33)
    config.data.crop = 128
    config.data.position = "random"
    config.data.padding = "centre"
    config.data.interpolation = "linear"
    config.data.test_resize = 0
    config.data.test_scale = 0.33
    config.data.test_crop = 128
    return config


def as_picie(config: ConfigDict) -> ConfigDict:
    """Sets what IIC has in PiCIE's comparison: its network, images of 320, 10 epochs of a head."""
    config.method.network = "fpn"
    config.method.sobel = False
    config.data.resize = 320
    config.data.crop = 320
    config.data.position = "centre"
    config.data.test_resize = 320
    config.data.test_crop = 320
    config.train.epochs = 20  # passes: 10 of either head
    return config


def potsdam(config: ConfigDict) -> ConfigDict:
    """Sets IIC's data on Potsdam: tiles with infrared, trained on all, tested on the labelled."""
    config.method.sobel = False
    config.method.jitter = (0.1, 0.1, 0.1, 0.1)
    config.data.root = "data/potsdam"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.train_split = "all"
    config.data.test_split = "labelled"
    config.data.channels = 4
    config.data.crop = 200
    config.data.test_crop = 200
    return config


def small(config: ConfigDict) -> ConfigDict:
    """Makes it fit two CPU cores: an eighth of the channels or less, views of 96 pixels, T = 1."""
    config.method.widths = (8, 16, 32, 32, 32, 32)
    config.method.displacement = 1
    config.data.resize = 128
    config.data.crop = 96
    config.data.test_resize = 128
    config.data.test_crop = 0  # whole images
    config.data.test_pad_multiple = 4
    config.optim.learning_rate = 1e-3
    return config
