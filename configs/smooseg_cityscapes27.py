"""SmooSeg on Cityscapes, 27 classes.

python -m jaxseg.main --config=configs/smooseg_cityscapes27.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: 82.8 Acc, 18.4 mIoU, without CRF 79.8 and 18.0; measured:
not run.
"""

from configs import frozen_base, smooseg_base


def get_config():
    return frozen_base.cityscapes27(smooseg_base.smooseg(clusters=27))
