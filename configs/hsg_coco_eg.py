"""Ablation of HSG's table 3: contrast by regions, and goodness of grouping (E, G).

python -m jaxseg.main --config=configs/hsg_coco_eg.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco.py in all else.

Hardware and hours: not run. Published: 41.7 mIoU on VOC val for E
and one of F and G; measured: not run.
"""

from configs import hsg_base, hsg_coco


def get_config():
    config = hsg_coco.get_config()
    return hsg_base.weigh(config, regions=1.0, levels=0.0, grouping=1.0)
