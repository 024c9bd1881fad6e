"""The supervised ceiling, small, on CamVid street images.

python -m jaxseg.main --config=configs/supervised_camvid.py --config.data.root=DIR

IT READS LABELS in training: no result of learning without them. The network is that of the small
PiCIE configs, for two CPU cores.

Hardware: one shared CPU core, 2 minutes of training. Published: none. Measured: Acc 81.4, mIoU 37.3
(seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, picie_base, supervised_base


def get_config():
    config = frozen_base.camvid(supervised_base.supervised(classes=11))
    config.train.epochs = 12
    config.data.resize = 128
    config.data.crop = 128
    return picie_base.small(config, size=128, base=128)
