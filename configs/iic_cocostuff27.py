"""IIC on COCO-Stuff-27 as PiCIE ran it: its ResNet-18 with a pyramid, from ImageNet.

python -m jaxseg.main --config=configs/iic_cocostuff27.py --config.data.root=DIR

Pretrained: --config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m
jaxseg.convert. Its batch and largest displacement are not published; those here are this project's
choice.

Hardware and hours: not run. Published: 21.8 Acc, 6.7 mIoU; measured: not run.
"""

from configs import frozen_base, iic_base


def get_config():
    config = iic_base.iic(clusters=27, overclusters=45, batch_size=64, images=49_629)
    return iic_base.as_picie(frozen_base.cocostuff27(config))
