"""Ablation of SmooSeg on COCO-Stuff-27: without the smoothness across images.

python -m jaxseg.main --config=configs/smooseg_cocostuff27_no_across.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: 36.1 Acc, 10.4 mIoU; measured: not run.
"""

from configs import smooseg_cocostuff27


def get_config():
    config = smooseg_cocostuff27.get_config()
    config.method.terms = ("data", "within")
    return config
