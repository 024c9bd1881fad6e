"""IIC, small, on the embedded scenes.

python -m jaxseg.main --config=configs/iic_scenes.py

The network has about an eighth of the channels, for two CPU cores; its largest shift is 1 pixel.

Hardware: one shared CPU core, 3 to 6 minutes of training. Published: none. Measured: Acc 46.4,
53.5, 49.9, mIoU 18.9, 20.0, 21.4 (seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import iic_base, picie_base


def get_config():
    config = iic_base.iic(clusters=8, overclusters=24, batch_size=32, images=2_000)
    config = picie_base.scenes(iic_base.small(config))
    config.data.resize = 0
    config.train.epochs = 2  # passes: one of either head
    return config
