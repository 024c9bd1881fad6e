"""Ablation of SAN on COCO-Stuff-3: a U-Net as pixel encoder.

python -m jaxseg.main --config=configs/san_cocostuff3_encoder_unet.py --config.data.root=DIR

Hardware and hours: not run. Published: 71.9 Acc; measured: not run.
"""

from configs import san_base, san_cocostuff3


def get_config():
    return san_base.variant(san_cocostuff3.get_config(), "encoder_unet")
