"""SegSort on COCO-Stuff-15.

python -m jaxseg.main --config=configs/segsort_cocostuff15.py \
    --config.data.root=DIR --config.data.regions=DIR2

Trained on the curated images of train2017, which with their labels are also the bank; scored on
those of val2017. Five epochs at so low a rate are short; METHODS calls the recipe open.
DIR2 holds region maps of the training images ("graph" computes simple ones on the fly).

Hardware and hours: not run. Published: 16.4 mIoU, 49.9 Acc by retrieval; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.cocostuff15(hsg_base.segsort(classes=15))
