"""SegSort on COCO, for VOC, with the schedule of HSG.

python -m jaxseg.main --config=configs/segsort_coco.py \
    --config.data.root=DIR --config.data.regions=DIR2

One view, crops of 224, as stage 1 of HSG. DIR2 holds region maps of the training images ("graph"
computes simple ones on the fly). Score it on VOC with configs/segsort_coco_voc.py.

Hardware and hours: not run. Published: 11.7 mIoU, 75.1 Acc on VOC val by retrieval; measured: not
run.
"""

from configs import hsg_base


def get_config():
    config = hsg_base.coco(hsg_base.segsort(classes=21))
    return hsg_base.coco_stage1(config)
