"""Scores a run of segsort_coco.py on VOC 2012.

python -m jaxseg.main --config=configs/segsort_coco_voc.py --mode=evaluate \
    --workdir=runs/segsort_coco --config.data.root=DIR

The protocol is that of configs/hsg_coco_voc.py.

Hardware and hours: not run. Published: 11.7 mIoU, 75.1 Acc; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.voc(hsg_base.segsort(classes=21))
