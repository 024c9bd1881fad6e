"""HSG on COCO, stage 2, for VOC: the flagship run.

python -m jaxseg.main --config=configs/hsg_coco.py \
    --config.data.root=DIR --config.data.regions=DIR2

Goes on from runs/hsg_coco_stage1, which configs/hsg_coco_stage1.py makes; another one:
--config.train.init_from=WORKDIR. DIR2 holds region maps of the training images ("graph" computes
simple ones on the fly). Score it on VOC with configs/hsg_coco_voc.py.

Hardware and hours: not run. Published: 41.9 mIoU, 85.7 Acc on VOC val by retrieval (released: 42.2
with batch 128 in stage 1, 43.7 with 192); measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.coco_stage2(hsg_base.hsg(classes=21))
