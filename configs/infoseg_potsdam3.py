"""InfoSeg on Potsdam, three classes, with infrared.

python -m jaxseg.main --config=configs/infoseg_potsdam3.py --config.data.root=DIR

Hardware and hours: not run. Published: 71.6 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=3)
    config.data.name = "potsdam3"
    config.data.root = "data/potsdam"
    config.data.channels = 4  # with infrared
    config.data.crop = 200
    config.data.test_crop = 200
    return config
