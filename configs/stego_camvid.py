"""STEGO on CamVid street images.

python -m jaxseg.main --config=configs/stego_camvid.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.camvid(stego_base.stego(clusters=11))
    stego_base.weigh(config, *stego_base.STREETS)
    config.data.test_pad_multiple = 8  # a patch
    return config
