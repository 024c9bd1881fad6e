"""Ablation of SAN on COCO-Stuff-3: no consistency loss.

python -m jaxseg.main --config=configs/san_cocostuff3_reconstruction_only.py --config.data.root=DIR

Hardware and hours: not run. Published: 74.4 Acc; measured: not run.
"""

from configs import san_base, san_cocostuff3


def get_config():
    return san_base.variant(san_cocostuff3.get_config(), "reconstruction_only")
