"""SAN on COCO-Stuff-15.

python -m jaxseg.main --config=configs/san_cocostuff15.py --config.data.root=DIR

DIR holds train2017, val2017 and stuffthingmaps (see jaxseg/data/coco.py). Trained on train, matched
and scored on val, as the paper says; as IIC: --config.data.train_split=train+val
--config.data.test_split=train+val. No code was released: the layers are this project's
reading (see jaxseg/methods/san.py).

Hardware and hours: not run. Published: 55.7 Acc; measured: not run.
"""

from configs import san_base


def get_config():
    return san_base.coco(san_base.san(clusters=15), "cocostuff15", "curated7")
