"""What the InfoSeg configs share, with every field that a run has and what it means.

The method, the data geometry and the schedule below are the paper's (Harb and Knöbelreiter 2021)
where it states them: Adam, learning rate 1e-4, batches of 64, images of 128 x 128. It states no
number of epochs, no augmentation and no way from photographs to 128 x 128; 30 epochs, mirroring,
and a shorter side of 128 with a random crop are this project's choice.
"""

from ml_collections import ConfigDict


def infoseg(clusters: int) -> ConfigDict:
    """Returns the paper's network and schedule for `clusters` classes; data is to be named yet."""
    config = ConfigDict()
    config.method = ConfigDict(
        {
            "name": "infoseg",
            "clusters": clusters,  # K
            "features": 1024,  # P, length of local and global vectors
            "patch_widths": (64, 128, 256, 512, 512),  # channels of the patch encoder
            "global_widths": (512, 1024, 1024),  # channels of the global encoder
            "objective": "infomax",  # or "iic", the paper's ablation IIC-MI
            "bound": "jsd",  # or "dv"
            "assignment": "soft",  # or "hard"
            "sg_V": False,  # stop the gradient through the assignment
            "tau": 0.8,  # multiplies the scores in the softmax
            "negatives": 1,  # other images that each image is contrasted with
            "layer_norm": False,  # on local and global vectors
            "jitter": (0.4, 0.4, 0.4, 0.125),  # of objective "iic"
            "displacement": 1,  # of objective "iic", in cells
            "lam": 1.0,  # of objective "iic"
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.data = ConfigDict(
        {
            "name": "",
            "batch_size": 64,
            "channels": 3,
            "views": 1,
            "resize": 0,  # shorter side in pixels before the crop; 0 = as it is
            "crop": 128,
            "scale": (1.0, 1.0),
            "flip": True,
            "position": "random",  # of the crop; or "centre"
            "padding": "corner",  # of images smaller than the crop; or "centre"
            "test_resize": 0,
            "test_side": "shorter",  # which side test_resize sets; or "longer"
            "test_scale": 1.0,  # factor of both sides after test_resize
            "test_crop": 128,
            "test_pad_multiple": 32,  # where test_crop is 0
            "interpolation": "bilinear",  # or "linear" (OpenCV's) or "nearest"
            "test_interpolation": "",  # "" = as in training
            "five_crop": False,  # four corners and the centre of each image, as images
            "tokens": "",  # InfoSeg has no frozen features to keep
            "partners": 0,
            "regions": "",  # "graph", "stored" or a folder, for a method that reads regions
            "regions_limit": 48,  # most regions of an image, with "graph"
            "train_split": "train",
            "test_split": "val",
            "cache": False,  # keep decoded examples in memory
            "threads": 2,
            "workers": 0,
            "prefetch": 4,
        }
    )
    config.optim = ConfigDict(
        {
            "name": "adam",
            "learning_rate": 1e-4,
            "schedule": "constant",  # or "cosine", "poly", "steps"
            "warmup_steps": 0,
            "warmup_from": 0.0,  # share of the rate that the warm-up begins with
            "momentum": 0.9,
            "rate_in_momentum": False,  # True = m <- momentum m + rate g, as HSG's SGD
            "bias_rate": 1.0,  # multiplies the rate of biases
            "weight_decay": 0.0,
            "decayed": "matrices",  # or "weights": norms' scales too
            "clip": 0.0,  # largest norm of a group's gradient; 0 = none
            "accumulate": 1,  # steps whose gradients are averaged
            "groups": {},  # by parameter group, the fields that differ
        }
    )
    config.train = ConfigDict(
        {
            "seed": 0,
            "steps": 0,  # 0 = as many as epochs says
            "epochs": 30,
            "refit_every": 0,  # InfoSeg has nothing to refit
            "select": "last",  # or "lowest_loss"
            "max_nonfinite": 5,
            "log_every": 20,
            "save_every": 500,
            "keep": 2,
            "monitor_every": 100,
            "evaluate_every": 0,
            "seconds": 0,  # end after so many seconds of training; 0 = no limit
            "samples": 8,
            "shards": 1,  # devices that hold one copy of the state together
            "init_from": "",
            "init_groups": (),
        }
    )
    config.evals = ConfigDict(
        {
            "infoseg": evaluation(probe="argmax", upsample="nearest"),
            "untrained": cluster_probe("untrained", clusters, "spherical"),
            "colour_kmeans": cluster_probe("colour", clusters, "euclidean"),
        }
    )
    return config


def evaluation(model: str = "trained", **fields) -> ConfigDict:
    """Returns an entry of `evals`."""
    entry = {
        "model": model,
        "source": "logits",  # the part of the output that the probe reads
        "label": "class",
        "upsample": "bilinear",
        "resolution": "view",  # of the labels that are scored; or "original", as they are stored
        "fit_limit": 0,
        "matching": "hungarian",
        "absent": "drop",  # a class neither labelled nor predicted; or "zero": counts as IoU 0
        "refine": "none",  # or "crf", "pamr"
        "tile": 0,  # side of the squares that large images are predicted in; 0 = whole
        "alignment": False,  # alignment and uniformity of the features too
        "things": (),  # names of classes to score apart from the others; () = those of COCO-27
    }
    return ConfigDict(entry | fields)


def cluster_probe(model: str, clusters: int, metric: str) -> ConfigDict:
    """Returns an entry of `evals` that runs k-means over a model's features."""
    return evaluation(
        model,
        probe="cluster",
        source="features",
        fit_limit=400,  # training images that k-means sees, spread over the split; 0 = all
        clusters=clusters,
        metric=metric,
        points=100_000,  # feature vectors clustered, from all images alike
        rounds=30,
        restarts=3,
    )


def shrink(config: ConfigDict, width: int, features: int) -> ConfigDict:
    """Makes the network small enough for two CPU cores: the paper's shape with `width` for 64."""
    config.method.patch_widths = tuple(width * n for n in (1, 2, 4, 8, 8))
    config.method.global_widths = tuple(width * n for n in (8, 16, 16))
    config.method.features = features
    return config
