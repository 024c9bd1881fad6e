"""HSG, small, on the embedded scenes: the demo.

python -m jaxseg.main --config=configs/hsg_scenes.py

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores; regions come from a simple over-segmentation.

Hardware: two CPU cores, some 7 processor minutes of training. Published: none. Measured, one seed:
37.7 Acc, 22.4 mIoU by k-means on the features (on colours 28.3, 15.5), 68.4 and 44.5 by retrieval;
levels of groups are in benchmarks/RESULTS.md.
"""

from configs import hsg_base


def get_config():
    return hsg_base.scenes(hsg_base.hsg(classes=8))
