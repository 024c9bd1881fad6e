"""Modified DeepCluster, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/mdc_camvid.py --config.data.root=DIR

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores.

Hardware: one shared CPU core, 3 minutes of training. Published: none. Measured: Acc 43.5, mIoU 18.2
(seed 0; benchmarks/RESULTS.md).
"""

from configs import frozen_base, mdc_base, picie_base


def get_config():
    config = frozen_base.camvid(mdc_base.mdc(clusters=11))
    config.train.epochs = 8
    return picie_base.small(config, size=128, base=192)
