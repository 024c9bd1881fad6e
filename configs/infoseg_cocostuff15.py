"""InfoSeg on COCO-Stuff-15.

python -m jaxseg.main --config=configs/infoseg_cocostuff15.py --config.data.root=DIR

Hardware and hours: not run. Published: 38.8 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=15)
    config.data.name = "cocostuff15"
    config.data.root = "data/coco"
    config.data.resize = 128
    config.data.test_resize = 128
    return config
