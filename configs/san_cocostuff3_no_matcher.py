"""Ablation of SAN on COCO-Stuff-3: no token matcher.

python -m jaxseg.main --config=configs/san_cocostuff3_no_matcher.py --config.data.root=DIR

Hardware and hours: not run. Published: 76.7 Acc; measured: not run.
"""

from configs import san_base, san_cocostuff3


def get_config():
    return san_base.variant(san_cocostuff3.get_config(), "no_matcher")
