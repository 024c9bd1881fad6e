"""Modified DeepCluster, small, on the embedded scenes.

python -m jaxseg.main --config=configs/mdc_scenes.py

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware: one shared CPU core, 3 to 6 minutes of training. Published: none. Measured: Acc 26.5,
31.7, 30.5, mIoU 10.8, 12.3, 10.6 (seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import mdc_base, picie_base


def get_config():
    config = mdc_base.mdc(clusters=8)
    config = picie_base.scenes(picie_base.small(config, size=96, base=96))
    config.data.batch_size = 32
    config.train.epochs = 8
    return config
