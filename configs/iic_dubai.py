"""IIC, small, on aerial images of Dubai.

python -m jaxseg.main --config=configs/iic_dubai.py --config.data.root=DIR

The network has about an eighth of the channels, for two CPU cores; its largest shift is 1 pixel.

Hardware: one shared CPU core, 1 minute of training. Published: none. Measured: Acc 53.0, mIoU 17.3
(seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, iic_base


def get_config():
    config = frozen_base.dubai(iic_base.iic(clusters=5, overclusters=15, batch_size=12, images=36))
    config.train.epochs = 40  # passes: 20 of either head
    return iic_base.small(config)
