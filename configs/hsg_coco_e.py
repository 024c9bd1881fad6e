"""Ablation of HSG's table 3: contrast by regions alone (E).

python -m jaxseg.main --config=configs/hsg_coco_e.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco.py in all else.

Hardware and hours: not run. Published: 40.9 mIoU on VOC val; measured: not run.
"""

from configs import hsg_base, hsg_coco


def get_config():
    config = hsg_coco.get_config()
    return hsg_base.weigh(config, regions=1.0, levels=0.0, grouping=0.0)
