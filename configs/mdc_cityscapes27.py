"""Modified DeepCluster on Cityscapes, 27 classes.

python -m jaxseg.main --config=configs/mdc_cityscapes27.py --config.data.root=DIR

Trained on test and train_extra, scored on val and train, as released. Pretrained:
--config.method.weights=FILE, a ResNet-18 trained on ImageNet, through python -m jaxseg.convert;
without it, 20 epochs from scratch.

Hardware and hours: not run. Published: 40.7 Acc, 7.1 mIoU; measured: not run.
"""

from configs import mdc_base, picie_base


def get_config():
    config = picie_base.cityscapes27(mdc_base.mdc(clusters=27))
    config.optim.learning_rate = 1e-3
    return config
