"""Modified DeepCluster on COCO-Stuff-27.

python -m jaxseg.main --config=configs/mdc_cocostuff27.py --config.data.root=DIR

Pretrained: --config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m
jaxseg.convert; without it, 20 epochs from scratch.

Hardware and hours: not run. Published: 32.2 Acc, 9.8 mIoU; measured: not run.
"""

from configs import frozen_base, mdc_base


def get_config():
    return frozen_base.cocostuff27(mdc_base.mdc(clusters=27))
