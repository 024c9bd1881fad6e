"""Modified DeepCluster on COCO-Stuff-15.

python -m jaxseg.main --config=configs/mdc_cocostuff15.py --config.data.root=DIR

On the images of IIC: scaled by 0.33, with zeros around what is smaller than 128 pixels, of which a
square of 128 is cut; views are drawn from that square. Pretrained: --config.method.weights=FILE, a
ResNet-18 trained on ImageNet, through python -m jaxseg.convert; without it, 20 epochs from scratch.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import iic_base, mdc_base, picie_base


def get_config():
    config = picie_base.cocostuff15(mdc_base.mdc(clusters=15))
    config.method.size = 128
    return iic_base.coco(config)
