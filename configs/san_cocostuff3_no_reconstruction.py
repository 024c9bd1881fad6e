"""Ablation of SAN on COCO-Stuff-3: no reconstruction loss.

python -m jaxseg.main --config=configs/san_cocostuff3_no_reconstruction.py --config.data.root=DIR

Hardware and hours: not run. Published: 34.2 Acc; measured: not run.
"""

from configs import san_base, san_cocostuff3


def get_config():
    return san_base.variant(san_cocostuff3.get_config(), "no_reconstruction")
