"""Modified DeepCluster on COCO-Stuff-15.

python -m jaxseg.main --config=configs/mdc_cocostuff15.py --config.data.root=DIR

As IIC, on images pre-scaled to 128 pixels; here the shorter side is 160, so that crops have what to
take. Pretrained: --config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m
jaxseg.convert; without it, 20 epochs from scratch.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import mdc_base, picie_base


def get_config():
    config = picie_base.cocostuff15(mdc_base.mdc(clusters=15))
    config.method.size = 128
    config.data.resize = 160
    config.data.crop = 160
    config.data.test_resize = 128
    config.data.test_crop = 128
    return config
