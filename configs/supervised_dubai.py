"""The supervised ceiling, small, on aerial images of Dubai.

python -m jaxseg.main --config=configs/supervised_dubai.py --config.data.root=DIR

IT READS LABELS in training: no result of learning without them. The network is that of the small
PiCIE configs, for two CPU cores.

Hardware: one shared CPU core, half a minute of training. Published: none. Measured: Acc 73.8, mIoU
32.4 (seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, picie_base, supervised_base


def get_config():
    config = frozen_base.dubai(supervised_base.supervised(classes=5))
    config.train.epochs = 50
    config.data.resize = 128
    config.data.crop = 128
    return picie_base.small(config, size=128, base=128)
