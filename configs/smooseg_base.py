"""What the SmooSeg configs share, with every field of the method and what it means.

Method and schedule are those of the released code of Lan et al. 2023: Adam, learning rate 1e-4 for
the projector and 5e-4 for the prototypes, batches of 32, 3,000 steps (8,000 on COCO-Stuff); it
computes in half precision, here `method.dtype`. It keeps the checkpoint of the best validation
mIoU, which is a choice by labels; these configs keep the last.

The thresholds suit the features that they were chosen for. For other data or another backbone,
`--mode=suggest_thresholds` searches them without labels.
"""

from ml_collections import ConfigDict

from configs import frozen_base


def smooseg(clusters: int, steps: int = 3000) -> ConfigDict:
    """Returns the paper's method and schedule for `clusters` classes; data is to be named yet."""
    config = frozen_base.frozen(clusters, batch_size=32, steps=steps)
    config.method = ConfigDict(
        {
            "name": "smooseg",
            "weights": "",  # file written by jaxseg.convert; "" = a random backbone, to no use
            "online_probes": None,  # probes trained beside it; see frozen_base.linear_probe
            "clusters": clusters,  # K
            "backbone": "vit_small_8",  # a key of jaxseg.models.backbones.ARCHITECTURES
            "dim": 64,  # D, length of a code
            "dropout": 0.2,  # share of the channels; the paper has none
            "tau": 0.1,  # of the softmax over prototypes; 0.2 and more collapse
            "alpha": 0.998,  # of the teacher's moving average; 0.99 and more are stable
            # Released code: -0.02 and 0.5. The paper's eq. 4 swaps their names.
            "beta_within": -0.02,
            "beta_across": 0.5,
            "closeness": "code",  # how W is centred; or "paper"
            "terms": ("data", "across", "within"),  # of the loss
            "flip_average": True,  # in inference, with the codes of the mirrored image
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.optim.groups.prototypes = frozen_base.learning_rate(5e-4)
    return frozen_base.evaluations(config, "smooseg", clusters)
