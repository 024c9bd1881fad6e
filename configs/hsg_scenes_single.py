"""HSG, small, on the embedded scenes, with one view of each image.

python -m jaxseg.main --config=configs/hsg_scenes_single.py

As configs/hsg_scenes.py in all else.

Hardware: one CPU core, some 16 minutes of training beside other programs. Published: none.
Measured, one seed: 29.5 Acc, 16.8 mIoU by k-means on the features, 57.8 and 31.2 by retrieval
(benchmarks/RESULTS.md).
"""

from configs import hsg_scenes


def get_config():
    config = hsg_scenes.get_config()
    config.data.views = 1
    return config
