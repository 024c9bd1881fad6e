"""SAN on Cityscapes, 27 classes.

python -m jaxseg.main --config=configs/san_cityscapes27.py --config.data.root=DIR

Trained on train, matched and scored on val; the paper does not name the splits.

Hardware and hours: not run. Published: 51.0 Acc; measured: not run.
"""

from configs import san_base


def get_config():
    return san_base.cityscapes27(san_base.san(clusters=27))
