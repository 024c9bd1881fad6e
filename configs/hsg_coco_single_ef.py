"""Ablation of HSG's table 3: one view of each image, contrast by regions and groups (E, F).

python -m jaxseg.main --config=configs/hsg_coco_single_ef.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco_ef.py, from stage 1 of configs/hsg_coco_stage1_single.py.

Hardware and hours: not run. Published: 13.8 mIoU on VOC val for E and one
of F and G; measured: not run.
"""

from configs import hsg_coco_ef


def get_config():
    config = hsg_coco_ef.get_config()
    config.data.views = 1
    config.train.init_from = "runs/hsg_coco_stage1_single"
    return config
