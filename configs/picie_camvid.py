"""PiCIE, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/picie_camvid.py --config.data.root=DIR

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware: one shared CPU core, 5 minutes of training. Published: none. Measured: Acc 46.3, mIoU 12.2
(seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, picie_base


def get_config():
    config = frozen_base.camvid(picie_base.picie(clusters=11))
    config.train.epochs = 8
    return picie_base.small(config, size=128, base=192)
