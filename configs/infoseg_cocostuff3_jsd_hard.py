"""Ablation of InfoSeg on COCO-Stuff-3: Jensen-Shannon bound, hard assignment.

python -m jaxseg.main --config=configs/infoseg_cocostuff3_jsd_hard.py --config.data.root=DIR

Hardware and hours: not run. Published: 67.3 Acc; measured: not run.
"""

from configs import infoseg_cocostuff3


def get_config():
    config = infoseg_cocostuff3.get_config()
    config.method.assignment = "hard"
    return config
