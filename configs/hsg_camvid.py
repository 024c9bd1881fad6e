"""HSG, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/hsg_camvid.py --config.data.root=DIR

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores; regions come from a simple over-segmentation. The bank is of train.

Hardware: one CPU core, some 21 minutes of training beside other programs. Published: none.
Measured, one seed: 76.6 Acc, 31.1 mIoU by retrieval, 60.5 and 16.3 by k-means on the features
(benchmarks/RESULTS.md).
"""

from configs import hsg_base


def get_config():
    return hsg_base.camvid(hsg_base.hsg(classes=11))
