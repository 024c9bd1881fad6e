"""SAN on Potsdam, six classes, with infrared.

python -m jaxseg.main --config=configs/san_potsdam.py --config.data.root=DIR

DIR holds tiles, or the release with its folder tiles, which `python -m
jaxseg.prepare tiles` cuts. Colours jitter by 0.1 each, images are mirrored and lose their
colour, as IIC; how often they lose it is not stated, and a tenth is this project's choice. Scored
on the test tiles, in crops of 128; as IIC: --config.data.train_split=all
--config.data.test_split=labelled.

Hardware and hours: not run. Published: 60.5 Acc; measured: not run.
"""

from configs import san_base


def get_config():
    config = san_base.san(clusters=6)
    config.method.jitter = (0.1, 0.1, 0.1, 0.1)
    config.method.grey_share = 0.1
    config.data.name = "potsdam"
    config.data.root = "data/potsdam"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.test_split = "test"
    config.data.channels = 4  # with infrared
    config.data.flip = True
    return config
