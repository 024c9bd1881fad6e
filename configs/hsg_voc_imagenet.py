"""HSG on VOC 2012 from ImageNet weights, with a PSPNet-ResNet50.

python -m jaxseg.main --config=configs/hsg_voc_imagenet.py \
    --config.data.root=DIR --config.data.regions=DIR2 \
    --config.method.weights=FILE

Trained on the augmented split without its labels, scored on val. FILE holds a ResNet-50 trained on
ImageNet (with its labels), through python -m jaxseg.convert. DIR2 holds region maps of the training
images ("graph" computes simple ones on the fly).

Hardware and hours: not run. Published: 61.7 mIoU; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.voc_imagenet(hsg_base.hsg(classes=21))
