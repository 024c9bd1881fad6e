"""IIC on COCO-Stuff-15.

python -m jaxseg.main --config=configs/iic_cocostuff15.py --config.data.root=DIR

One set of images is trained on, matched and scored, as released: the curated images of both splits.

Hardware and hours: not run. Published: 27.7 Acc; measured: not run.
"""

from configs import iic_base, picie_base


def get_config():
    config = iic_base.iic(clusters=15, overclusters=45, batch_size=60, images=49_629 + 2_175)
    return iic_base.coco(picie_base.cocostuff15(config))
