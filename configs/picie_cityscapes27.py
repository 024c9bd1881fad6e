"""PiCIE on Cityscapes, 27 classes.

python -m jaxseg.main --config=configs/picie_cityscapes27.py --config.data.root=DIR

Trained on test and train_extra, scored on val and train, as released. Pretrained:
--config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m jaxseg.convert;
without it, 20 epochs from scratch.

Hardware and hours: not run. Published: 65.5 Acc, 12.3 mIoU; measured: not run.
"""

from configs import picie_base


def get_config():
    config = picie_base.cityscapes27(picie_base.picie(clusters=27))
    config.optim.learning_rate = 1e-3
    return config
