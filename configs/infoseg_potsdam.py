"""InfoSeg on Potsdam, six classes, with infrared.

python -m jaxseg.main --config=configs/infoseg_potsdam.py --config.data.root=DIR

Hardware and hours: not run. Published: 57.3 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=6)
    config.data.name = "potsdam"
    config.data.root = "data/potsdam"
    config.data.channels = 4  # with infrared
    config.data.crop = 200
    config.data.test_crop = 200
    return config
