"""SmooSeg on CamVid street images.

python -m jaxseg.main --config=configs/smooseg_camvid.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.camvid(smooseg_base.smooseg(clusters=11))
    config.data.test_pad_multiple = 8  # a patch
    return config
