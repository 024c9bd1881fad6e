"""Ablation of InfoSeg on COCO-Stuff-3: Donsker-Varadhan bound, soft assignment.

python -m jaxseg.main --config=configs/infoseg_cocostuff3_dv_soft.py --config.data.root=DIR

Hardware and hours: not run. Published: 55.1 Acc; measured: not run.
"""

from configs import infoseg_cocostuff3


def get_config():
    config = infoseg_cocostuff3.get_config()
    config.method.bound = "dv"
    return config
