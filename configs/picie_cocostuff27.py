"""PiCIE on COCO-Stuff-27.

python -m jaxseg.main --config=configs/picie_cocostuff27.py --config.data.root=DIR

Pretrained: --config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m
jaxseg.convert; without it, 20 epochs from scratch.

Hardware and hours: not run. Published: 48.1 Acc, 13.8 mIoU; measured: not run.
"""

from configs import frozen_base, picie_base


def get_config():
    return frozen_base.cocostuff27(picie_base.picie(clusters=27))
