"""What the SAN configs share, with every field of the method and what it means.

The paper states Adam at 1e-4, 30 epochs, crops of 128 everywhere, and matching on the validation
set. It does not state the batch size, nor how images are brought to 128: batches of 64 and a
shorter side of 128 are this project's choice, as is what the head of jaxseg/methods/san.py marks.
"""

from ml_collections import ConfigDict

from configs import frozen_base, infoseg_base

# The ablations of tables 4 and 5: name -> fields of the method.
VARIANTS = {
    "encoder_resnet18": {"encoder": "resnet18"},
    "encoder_unet": {"encoder": "unet"},
    "generator_resnet18": {"generator": "resnet18"},
    "generator_unet": {"generator": "unet"},
    "generator_vit4": {"blocks": 4},
    "no_reconstruction": {"reconstruction_weight": 0.0},
    "reconstruction_only": {"consistency_weight": 0.0},
    "no_batchwise": {"scope": "image"},
    "no_matcher": {"matcher": "none"},
}


def san(clusters: int) -> ConfigDict:
    """Returns the paper's network and schedule for `clusters` classes; data is to be named yet."""
    config = infoseg_base.infoseg(clusters)
    config.method = ConfigDict(
        {
            "name": "san",
            "clusters": clusters,  # N
            "features": 1024,  # P, length of pixels and semantics
            "encoder": "conv",  # or "resnet18", "unet"
            "generator": "vit",  # or "resnet18", "unet"
            "blocks": 6,  # of the transformer
            "heads": 8,  # of its attention
            "patch": 8,  # pixels along a side of its patches
            "trained_cells": 16,  # data.crop / patch
            "stem": 64,  # channels of the first layer of ResNet and U-Net
            "decoder_width": 256,
            "scope": "batch",  # semantics of the global batch; or "image", of each image
            "matcher": "sigmoid",  # or "softmax", "none"
            "norm": "batch",  # over the semantics; or "none"
            "reconstruction_weight": 1.0,
            "consistency_weight": 1.0,
            "consistency": "embeddings",  # or "images": what L_Con compares
            "orthogonality_weight": 0.0,
            "cosine_weight": 0.0,
            "inference": "fixed",  # semantics; or "batch", of the images predicted together
            "jitter": (0.0, 0.0, 0.0, 0.0),  # brightness, contrast, saturation, hue
            "grey_share": 0.0,  # of the images, that lose their colour
            "chunk": 1024,  # pixels of an image attended to at once; 0 = all
            "remat": True,  # less memory, more time
            "dtype": "bfloat16",  # or "float32"
        }
    )
    config.data.flip = False
    config.data.test_pad_multiple = 8  # of whole images: a patch
    config.evals = ConfigDict(
        {
            "san": infoseg_base.evaluation(probe="argmax", upsample="nearest", alignment=True),
            "untrained": infoseg_base.cluster_probe("untrained", clusters, "spherical"),
            "colour_kmeans": infoseg_base.cluster_probe("colour", clusters, "euclidean"),
        }
    )
    return config


def variant(config: ConfigDict, name: str) -> ConfigDict:
    """Sets the fields of one of VARIANTS."""
    config.method.update(VARIANTS[name])
    return config


def coco(config: ConfigDict, name: str, images: str) -> ConfigDict:
    """Sets the data: COCO-Stuff, trained on train and scored on val, of a list of images."""
    config = frozen_base.cocostuff27(config)
    config.data.name = name
    config.data.train_list = images
    config.data.val_list = images
    return short(config)


def cityscapes27(config: ConfigDict) -> ConfigDict:
    """Sets the data: Cityscapes, 27 classes."""
    return short(frozen_base.cityscapes27(config))


def short(config: ConfigDict) -> ConfigDict:
    """Sets the geometry: shorter side to 128, a crop of 128."""
    config.data.resize = 128
    config.data.test_resize = 128
    return config


def small(config: ConfigDict, crop: int) -> ConfigDict:
    """Makes it fit two CPU cores: P = 64, a transformer of 2 blocks, batches of 16."""
    config.method.features = 64
    config.method.blocks = 2
    config.method.heads = 4
    config.method.stem = 8
    config.method.decoder_width = 32
    config.method.trained_cells = crop // config.method.patch
    config.method.chunk = 0
    config.method.remat = False
    config.method.dtype = "float32"
    config.data.crop = crop
    config.data.batch_size = 16
    config.optim.learning_rate = 1e-3
    config.train.epochs = 0
    config.train.steps = 400
    return config


def scenes(config: ConfigDict) -> ConfigDict:
    """Sets the data: the embedded scenes, 8 classes, at 96 pixels; a small network."""
    config = frozen_base.scenes(small(config, crop=96))
    config.data.size = 96
    config.data.test_crop = 96
    return config
