"""Ablation of HSG's table 4: FINCH in the place of the clustering transformer.

python -m jaxseg.main --config=configs/hsg_coco_finch.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco.py in all else; there is no goodness of grouping to learn.

Hardware and hours: not run. Published: 40.6 mIoU on VOC val; measured: not run.
"""

from configs import hsg_coco


def get_config():
    config = hsg_coco.get_config()
    config.method.grouper = "finch"
    config.optim.groups = {}  # no transformers
    return config
