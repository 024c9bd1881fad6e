"""The supervised ceiling on COCO-Stuff-15.

python -m jaxseg.main --config=configs/supervised_cocostuff15.py --config.data.root=DIR

IT READS LABELS in training: no result of learning without them; and as the protocol of IIC trains
and tests on the same images, it says how well the network can fit them. Images as in IIC, a third
of the size, in squares of 128.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import iic_base, picie_base, supervised_base


def get_config():
    return iic_base.coco(picie_base.cocostuff15(supervised_base.supervised(classes=15)))
