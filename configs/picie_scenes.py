"""PiCIE, small, on the embedded scenes.

python -m jaxseg.main --config=configs/picie_scenes.py

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware: one shared CPU core, about 6 minutes of training. Published: none. Measured: Acc 33.8,
33.3, 38.2, mIoU 9.4, 15.3, 18.0 (seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import picie_base


def get_config():
    config = picie_base.picie(clusters=8)
    config = picie_base.scenes(picie_base.small(config, size=96, base=96))
    config.data.batch_size = 32
    config.train.epochs = 8
    return config
