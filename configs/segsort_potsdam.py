"""SegSort on Potsdam, six classes, RGB.

python -m jaxseg.main --config=configs/segsort_potsdam.py \
    --config.data.root=DIR --config.data.regions=DIR2

Trained on 7,695 tiles, scored on 855. The bank is of the labelled training tiles (4,545). Whether
the paper had infrared and how it came to this recipe is open.
DIR2 holds region maps of the training images ("graph" computes simple ones on the fly).

Hardware and hours: not run. Published: 35.0 mIoU, 59.0 Acc by retrieval; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.potsdam(hsg_base.segsort(classes=6))
