"""Ablation of SmooSeg on COCO-Stuff-27: at a temperature that collapses.

python -m jaxseg.main --config=configs/smooseg_cocostuff27_tau.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: a figure alone, in which 0.1 and less are good and 0.2 and
more collapse; measured: not run.
"""

from configs import smooseg_cocostuff27


def get_config():
    config = smooseg_cocostuff27.get_config()
    config.method.tau = 0.2  # the paper's figure has others too
    return config
