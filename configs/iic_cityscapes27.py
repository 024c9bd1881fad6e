"""IIC on Cityscapes, 27 classes, as PiCIE ran it: its ResNet-18 with a pyramid, from ImageNet.

python -m jaxseg.main --config=configs/iic_cityscapes27.py --config.data.root=DIR

Trained on test and train_extra, scored on val and train, as PiCIE is. Pretrained:
--config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m jaxseg.convert. The
recipe is that of COCO-Stuff-27, in which batch and largest displacement are this project's choice.

Hardware and hours: not run. Published: 47.9 Acc, 6.4 mIoU; measured: not run.
"""

from configs import iic_base, picie_base


def get_config():
    images = 1_525 + 19_998
    config = iic_base.iic(clusters=27, overclusters=45, batch_size=64, images=images)
    return iic_base.as_picie(picie_base.cityscapes27(config))
