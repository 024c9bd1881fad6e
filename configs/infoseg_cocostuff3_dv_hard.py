"""Ablation of InfoSeg on COCO-Stuff-3: Donsker-Varadhan bound, hard assignment.

python -m jaxseg.main --config=configs/infoseg_cocostuff3_dv_hard.py --config.data.root=DIR

Hardware and hours: not run. Published: 53.9 Acc; measured: not run.
"""

from configs import infoseg_cocostuff3


def get_config():
    config = infoseg_cocostuff3.get_config()
    config.method.bound = "dv"
    config.method.assignment = "hard"
    return config
