"""SmooSeg on COCO-Stuff, 27 classes.

python -m jaxseg.main --config=configs/smooseg_cocostuff27.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: 63.2 Acc, 26.7 mIoU, without CRF 60.6 and 25.2; measured:
not run.
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.cocostuff27(smooseg_base.smooseg(clusters=27, steps=8000))
    config.method.beta_across = 0.48
    return config
