"""SegSort on Cityscapes, 19 classes.

python -m jaxseg.main --config=configs/segsort_cityscapes.py \
    --config.data.root=DIR --config.data.regions=DIR2

Trained on 2,975 frames, which with their labels are also the bank; scored on val, whole frames.
DIR2 holds region maps of the training images ("graph" computes simple ones on the fly).

Hardware and hours: not run. Published: 24.6 mIoU, 81.9 Acc by retrieval; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.cityscapes(hsg_base.segsort(classes=19))
