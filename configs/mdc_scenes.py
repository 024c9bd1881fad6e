"""Modified DeepCluster, small, on the embedded scenes.

python -m jaxseg.main --config=configs/mdc_scenes.py

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import mdc_base, picie_base


def get_config():
    config = mdc_base.mdc(clusters=8)
    config = picie_base.scenes(picie_base.small(config, size=96, base=96))
    config.data.batch_size = 32
    config.train.epochs = 8
    return config
