"""IIC, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/iic_camvid.py --config.data.root=DIR

The network has about an eighth of the channels, for two CPU cores; its largest shift is 1 pixel.

Hardware: one shared CPU core, 2 minutes of training. Published: none. Measured: Acc 41.9, mIoU 10.9
(seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, iic_base


def get_config():
    config = frozen_base.camvid(
        iic_base.iic(clusters=11, overclusters=33, batch_size=16, images=367)
    )
    config.train.epochs = 6  # passes: 3 of either head
    return iic_base.small(config)
