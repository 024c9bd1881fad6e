"""The supervised ceiling, small, on the embedded scenes.

python -m jaxseg.main --config=configs/supervised_scenes.py

IT READS LABELS in training: no result of learning without them. The network is that of the small
PiCIE configs, for two CPU cores.

Hardware: one shared CPU core, 1 to 3 minutes of training. Published: none. Measured: Acc 91.5,
89.5, 91.8 (seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import picie_base, supervised_base


def get_config():
    config = supervised_base.supervised(classes=8)
    config = picie_base.scenes(picie_base.small(config, size=96, base=96))
    config.data.resize = 0
    config.data.crop = 96
    config.data.batch_size = 32
    config.train.epochs = 8
    return config
