"""HSG on COCO-Stuff-15.

python -m jaxseg.main --config=configs/hsg_cocostuff15.py \
    --config.data.root=DIR --config.data.regions=DIR2

Trained on the curated images of train2017, which with their labels are also the bank; scored on
those of val2017. Five epochs at so low a rate are short; METHODS calls the recipe open.
DIR2 holds region maps of the training images ("graph" computes simple ones on the fly).

Hardware and hours: not run. Published: 23.8 mIoU, 57.6 Acc by retrieval; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.cocostuff15(hsg_base.hsg(classes=15))
