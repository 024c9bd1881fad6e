"""What the STEGO configs share, with every field of the method and what it means.

Method and schedule are those of the released code of Hamilton et al. 2022: Adam, learning rate 5e-4
for the head and 5e-3 for the probes, batches of 16, 5,000 steps. Weights and shifts of its loss are
read from one config whose comments list several sets; public reports fail to reproduce some.
"""

from ml_collections import ConfigDict

from configs import frozen_base

# Weights and shifts of the terms (the image itself, its neighbour, random images) that the released
# config gives for Cityscapes, the set that it lists first, and for Potsdam. The older set for
# Cityscapes: (0.46, 0.18, 0.72), (0.25, 0.20, 0.25).
STREETS = (1.0, 0.577, 0.906), (0.458, 0.175, 0.314)
AERIAL = (0.67, 0.25, 0.63), (0.08, 0.02, 0.46)


def stego(clusters: int) -> ConfigDict:
    """Returns STEGO with ViT-S/8, COCO's weights and shifts; data is to be named yet."""
    config = frozen_base.frozen(clusters, batch_size=16, steps=5000)
    config.method = ConfigDict(
        {
            "name": "stego",
            "weights": "",  # file written by jaxseg.convert; "" = a random backbone, to no use
            "online_probes": None,  # probes trained beside it; see frozen_base.linear_probe
            "clusters": clusters,  # K
            "backbone": "vit_small_8",  # a key of jaxseg.models.backbones.ARCHITECTURES
            "dim": 70,  # D, length of a code
            "dropout": 0.1,  # share of the channels
            # Weights and shifts of the terms: the image itself, its neighbour, random images.
            "w_self": 0.67,
            "w_knn": 0.25,
            "w_random": 0.63,
            "b_self": 0.08,
            "b_knn": 0.02,
            "b_random": 0.66,
            "points": 11,  # points^2 are sampled in an image
            "negatives": 5,  # random images that each is compared with
            "pointwise": True,  # centre the closeness of features by rows
            "zero_clamp": True,  # similarities of codes below 0 count as 0
            "stabilise": False,  # those above 0.8 count as 0.8
            "flip_average": True,  # in inference, with the codes of the mirrored image
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.data.partners = 7  # the neighbour is drawn from the 7 nearest images
    config.optim.learning_rate = 5e-4
    config.optim.groups.cluster = frozen_base.learning_rate(5e-3)
    return frozen_base.evaluations(config, "stego", clusters)


def weigh(config: ConfigDict, weights: tuple[float, ...], shifts: tuple[float, ...]) -> ConfigDict:
    """Sets weights and shifts of the terms: (self, neighbour, random)."""
    for name, weight, shift in zip(("self", "knn", "random"), weights, shifts, strict=True):
        config.method[f"w_{name}"] = weight
        config.method[f"b_{name}"] = shift
    return config
