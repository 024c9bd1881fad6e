"""What the PiCIE configs share, with every field of the method and what it means.

Schedule and geometry are those of the released code of Cho et al. 2021: Adam, a constant learning
rate of 1e-4 on COCO-Stuff and 1e-3 on Cityscapes (the paper says 1e-3), batches of 128, 10 epochs
from ImageNet weights (20 from scratch), images of 640 from which views of 320 are made, test images
of 320. It evaluates with fresh centroids of training images; `picie_training_centroids` scores view
1's centroids of the last epoch beside them.
"""

from ml_collections import ConfigDict

from configs import frozen_base, infoseg_base


def picie(clusters: int) -> ConfigDict:
    """Returns the paper's network and schedule for `clusters` classes; data is to be named yet."""
    config = views(clusters)
    config.method = ConfigDict(
        {
            "name": "picie",
            "weights": "",  # file written by jaxseg.convert; "" = from scratch
            "online_probes": None,  # probes trained beside it; see frozen_base.linear_probe
            "clusters": clusters,  # K
            "overclusters": 0,  # K2 of PiCIE + H, which is unverified; the paper has 100
            "backbone": "resnet18",  # or "resnet50", with dim=256
            "dim": 128,  # D, features of a cell
            "fpn": "code",  # or "paper"
            "size": 320,  # side of a view in pixels
            "jitter": (0.3, 0.3, 0.3, 0.1),  # brightness, contrast, saturation, hue
            "smallest_crop": 0.5,  # side of the smallest crop
            "weighting": "proportional",  # as released; or "inverse" (balanced), "none"
            "faithful_bugs": (),  # of "no_grey", "blur_sigma", "plain_view_1"
            **refit(),
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.evals.picie = infoseg_base.evaluation(probe="argmax")
    config.evals.picie_training_centroids = infoseg_base.evaluation(
        probe="argmax", source="training_centroids"
    )
    return config


def refit() -> dict:
    """Returns the fields of the k-means before each epoch."""
    return {
        "cluster_batch": 256,  # images in its batches; 0 = as in training
        "start": "random",  # points of the sample; or "plusplus"
        "sample_size": 300_000,  # points that are clustered first; released: all, 33 million
        "sample_batches": 20,  # of how many batches
        "sample_rounds": 20,  # of Lloyd, on the sample
        "update_every": 1,  # batches that one update takes together
    }


def views(clusters: int) -> ConfigDict:
    """Returns the sections that PiCIE and MDC share; the method is to be named yet."""
    config = infoseg_base.infoseg(clusters)
    config.method = ConfigDict()
    del config.evals.infoseg
    config.data.update(
        {
            "batch_size": 128,
            "resize": 640,
            "crop": 640,
            "position": "centre",  # views are drawn on the device
            "flip": False,
            "test_resize": 320,
            "test_crop": 320,
        }
    )
    config.train.epochs = 10
    config.train.refit_every = -1  # an epoch
    return config


def small(config: ConfigDict, size: int, base: int) -> ConfigDict:
    """Makes it fit two CPU cores: a ResNet-18 of a quarter of the channels, from scratch."""
    config.method.backbone = "resnet18_slim"
    config.method.dim = 64
    if "size" in config.method:
        config.method.size = size
        config.method.cluster_batch = 0
        config.method.sample_size = 100_000
        config.data.resize = base
        config.data.crop = base
    config.data.batch_size = 16
    config.data.test_resize = size
    config.data.test_crop = 0  # whole images
    config.data.test_pad_multiple = 32
    config.optim.learning_rate = 1e-3
    return config


def cocostuff15(config: ConfigDict) -> ConfigDict:
    """Sets the data: COCO-Stuff-15, as IIC: curated images of both splits, also for the test."""
    config = frozen_base.cocostuff27(config)
    config.data.name = "cocostuff15"
    config.data.train_split = "train+val"
    config.data.test_split = "train+val"
    return config


def cityscapes27(config: ConfigDict) -> ConfigDict:
    """Sets the data: Cityscapes, 27 classes, with PiCIE's splits."""
    config = frozen_base.cityscapes27(config)
    config.data.train_split = "test+train_extra"
    config.data.test_split = "val+train"
    return config


def scenes(config: ConfigDict) -> ConfigDict:
    """Sets the data: the embedded scenes, 8 classes, at 96 pixels."""
    config = frozen_base.scenes(config)
    config.data.size = 96
    config.data.test_resize = 0
    config.data.test_crop = 96
    return config
