"""Modified DeepCluster, small, on aerial images of Dubai.

python -m jaxseg.main --config=configs/mdc_dubai.py --config.data.root=DIR

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware: one shared CPU core, 1 minute of training. Published: none. Measured: Acc 50.7, mIoU 21.0
(seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, mdc_base, picie_base


def get_config():
    config = frozen_base.dubai(mdc_base.mdc(clusters=5))
    config.train.epochs = 30
    return picie_base.small(config, size=128, base=192)
