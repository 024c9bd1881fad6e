"""What the configs of the supervised ceiling share. THEY READ LABELS in training.

The network of PiCIE with a linear classifier, Adam, learning rate 1e-3 (Cho et al. 2021,
supplement); epochs and batch are those of PiCIE. Any of these configs fine-tunes what a run of the
same network has learned without labels, as configs/supervised_scenes_transfer.py does:
--config.train.init_from=WORKDIR --config.train.init_groups="('backbone', 'fpn', 'extra')".
"""

from ml_collections import ConfigDict

from configs import infoseg_base


def supervised(classes: int) -> ConfigDict:
    """Returns the ceiling's network and schedule; data is to be named yet."""
    config = infoseg_base.infoseg(classes)
    config.method = ConfigDict(
        {
            "name": "supervised",
            "weights": "",  # file written by jaxseg.convert; "" = from scratch
            "online_probes": None,
            "classes": classes,  # C
            "label": "class",  # which labels
            "backbone": "resnet18",  # or "resnet50", with dim=256
            "dim": 128,  # D, features of a cell
            "fpn": "code",  # or "paper"
            "frozen_features": False,  # learn the classifier alone
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.data.update(
        {"batch_size": 128, "resize": 320, "crop": 320, "test_resize": 320, "test_crop": 320}
    )
    config.optim.learning_rate = 1e-3
    config.train.epochs = 10
    del config.evals.infoseg
    # Its logits are classes: not matched, and marked as learned with labels.
    config.evals.supervised = infoseg_base.evaluation(probe="argmax", matching="identity")
    return config


def transfer(config: ConfigDict, workdir: str) -> ConfigDict:
    """Begins with what a run of PiCIE, in `workdir`, has learned; its classifier is drawn anew."""
    config.train.init_from = workdir
    config.train.init_groups = ("backbone", "fpn", "extra")  # extra: BatchNorm's statistics
    return config
