"""SmooSeg on Potsdam, three classes, RGB, with ViT-B/8.

python -m jaxseg.main --config=configs/smooseg_potsdam3.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-B/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: 82.7 Acc, 70.3 mIoU, without CRF 81.4 and 68.4; measured:
not run.
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.potsdam3(smooseg_base.smooseg(clusters=3))
    config.method.backbone = "vit_base_8"
    config.method.beta_within = 0.1
    return config
