"""Scores a run of hsg_coco.py, or of its ablations, on VOC 2012.

python -m jaxseg.main --config=configs/hsg_coco_voc.py --mode=evaluate --workdir=runs/hsg_coco \
    --config.data.root=DIR

The bank is the augmented training split (10,582 images), the queries are val (1,449), the longer
side brought to 512 and, by retrieval, scored at their own size. DIR is VOCdevkit/VOC2012.

Hardware and hours: not run. Published: 41.9 mIoU, 85.7 Acc; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.voc(hsg_base.hsg(classes=21))
