"""SegSort, small, on the embedded scenes.

python -m jaxseg.main --config=configs/segsort_scenes.py

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores; regions come from a simple over-segmentation.

Hardware: one CPU core, some 7 minutes of training. Published: none. Measured, one seed: 36.2 Acc,
22.2 mIoU by k-means on the features, 63.9 and 38.3 by retrieval (benchmarks/RESULTS.md).
"""

from configs import hsg_base


def get_config():
    return hsg_base.scenes(hsg_base.segsort(classes=8))
