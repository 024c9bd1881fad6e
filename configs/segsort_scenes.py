"""SegSort, small, on the embedded scenes.

python -m jaxseg.main --config=configs/segsort_scenes.py

The network is a ResNet-18 of a quarter of the channels (resnet18_slim), from scratch, for two CPU
cores; regions come from a simple over-segmentation.

Hardware: two CPU cores. Published: none; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.scenes(hsg_base.segsort(classes=8))
