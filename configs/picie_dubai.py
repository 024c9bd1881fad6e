"""PiCIE, small, on aerial images of Dubai.

python -m jaxseg.main --config=configs/picie_dubai.py --config.data.root=DIR

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware: one shared CPU core, 2 to 3 minutes of training. Published: none. Measured: Acc 55.6, mIoU
19.3 (seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, picie_base


def get_config():
    config = frozen_base.dubai(picie_base.picie(clusters=5))
    config.train.epochs = 30
    return picie_base.small(config, size=128, base=192)
