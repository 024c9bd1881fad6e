"""HSG, small, on CamVid, with one view of each image.

python -m jaxseg.main --config=configs/hsg_camvid_single.py --config.data.root=DIR

As configs/hsg_camvid.py in all else.

Hardware: two CPU cores. Published: none; measured: not run.
"""

from configs import hsg_camvid


def get_config():
    config = hsg_camvid.get_config()
    config.data.views = 1
    return config
