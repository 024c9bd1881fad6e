"""HSG on COCO, stage 1: features from scratch by contrast of regions in two views.

python -m jaxseg.main --config=configs/hsg_coco_stage1.py \
    --config.data.root=DIR --config.data.regions=DIR2

Images of train2017 without labels, crops of 224, regions as segments. DIR2 holds region maps of the
training images ("graph" computes simple ones on the fly). hsg_coco.py goes on from it.

Hardware and hours: not run. Published: no score of its own; measured: not run.
"""

from configs import hsg_base


def get_config():
    config = hsg_base.coco(hsg_base.hsg(classes=21))
    return hsg_base.coco_stage1(config)
