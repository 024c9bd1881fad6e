"""SegSort, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/segsort_camvid.py --config.data.root=DIR

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores; regions come from a simple over-segmentation. The bank is of train.

Hardware: one CPU core, some 9 minutes of training beside other programs. Published: none.
Measured, one seed: 75.0 Acc, 28.3 mIoU by retrieval, 64.3 and 20.0 by k-means on the features
(benchmarks/RESULTS.md).
"""

from configs import hsg_base


def get_config():
    return hsg_base.camvid(hsg_base.segsort(classes=11))
