"""HSG, small, on CamVid, with one view of each image.

python -m jaxseg.main --config=configs/hsg_camvid_single.py --config.data.root=DIR

As configs/hsg_camvid.py in all else.

Hardware: one CPU core, some 15 minutes of training beside other programs. Published: none.
Measured, one seed: 73.9 Acc, 27.3 mIoU by retrieval, 60.6 and 22.0 by k-means on the features
(benchmarks/RESULTS.md).
"""

from configs import hsg_camvid


def get_config():
    config = hsg_camvid.get_config()
    config.data.views = 1
    return config
