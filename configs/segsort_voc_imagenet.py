"""SegSort on VOC 2012 from ImageNet weights, with a PSPNet-ResNet50.

python -m jaxseg.main --config=configs/segsort_voc_imagenet.py \
    --config.data.root=DIR --config.data.regions=DIR2 \
    --config.method.weights=FILE

As configs/hsg_voc_imagenet.py. DIR2 holds region maps of the training images ("graph" computes
simple ones on the fly).

Hardware and hours: not run. Published: 55.5 mIoU; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.voc_imagenet(hsg_base.segsort(classes=21))
