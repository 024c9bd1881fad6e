"""Ablation of HSG's table 3: one view of each image, all terms.

python -m jaxseg.main --config=configs/hsg_coco_single.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco.py, from stage 1 of configs/hsg_coco_stage1_single.py.

Hardware and hours: not run. Published: 14.0 mIoU on VOC val; measured: not run.
"""

from configs import hsg_coco


def get_config():
    config = hsg_coco.get_config()
    config.data.views = 1
    config.train.init_from = "runs/hsg_coco_stage1_single"
    return config
