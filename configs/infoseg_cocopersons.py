"""InfoSeg on COCO-Persons (person against the rest; the list of images is our own).

python -m jaxseg.main --config=configs/infoseg_cocopersons.py --config.data.root=DIR

Hardware and hours: not run. Published: 69.6 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=2)
    config.data.name = "cocopersons"
    config.data.root = "data/coco"
    config.data.resize = 128
    config.data.test_resize = 128
    return config
