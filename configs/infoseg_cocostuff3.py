"""InfoSeg on COCO-Stuff-3 (sky, plant, ground).

python -m jaxseg.main --config=configs/infoseg_cocostuff3.py --config.data.root=DIR

Hardware and hours: not run. Published: 73.8 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=3)
    config.data.name = "cocostuff3"
    config.data.root = "data/coco"
    config.data.resize = 128
    config.data.test_resize = 128
    return config
