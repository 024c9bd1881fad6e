"""InfoSeg on Potsdam, six classes, with infrared.

python -m jaxseg.main --config=configs/infoseg_potsdam.py --config.data.root=DIR

DIR holds tiles, or the release with its folder tiles, which `python -m
jaxseg.prepare tiles` cuts. The splits are IIC's, which the paper follows: trained on all 8,550
tiles, matched and scored on the 5,400 labelled. Stricter: --config.data.train_split=train
--config.data.test_split=test.

Hardware and hours: not run. Published: 57.3 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=6)
    config.data.name = "potsdam"
    config.data.root = "data/potsdam"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.train_split = "all"
    config.data.test_split = "labelled"
    config.data.channels = 4  # with infrared
    config.data.crop = 200
    config.data.test_crop = 200
    return config
