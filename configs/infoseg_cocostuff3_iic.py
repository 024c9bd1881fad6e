"""Ablation of InfoSeg on COCO-Stuff-3: the segmentation step alone, trained by IIC's objective.

python -m jaxseg.main --config=configs/infoseg_cocostuff3_iic.py --config.data.root=DIR

Hardware and hours: not run. Published: 60.2 Acc; measured: not run.
"""

from configs import infoseg_cocostuff3


def get_config():
    config = infoseg_cocostuff3.get_config()
    config.method.objective = "iic"
    # IIC's own settings for this data set: 10 pixels, which are 2.5 cells here, and 1.5.
    config.method.displacement = 3
    config.method.lam = 1.5
    return config
