"""HSG on KITTI-STEP.

python -m jaxseg.main --config=configs/hsg_kitti_step.py \
    --config.data.root=DIR --config.data.regions=DIR2

Trained on the 5,027 frames of train, which with their labels are also the bank; scored on val.
DIR2 holds region maps of the training images ("graph" computes simple ones on the fly).

Hardware and hours: not run. Published: 21.7 mIoU, 73.8 Acc by retrieval; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.kitti_step(hsg_base.hsg(classes=19))
