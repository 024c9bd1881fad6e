"""Ablation of SAN on COCO-Stuff-3: a transformer of 4 blocks.

python -m jaxseg.main --config=configs/san_cocostuff3_generator_vit4.py --config.data.root=DIR

Hardware and hours: not run. Published: 79.9 Acc; measured: not run.
"""

from configs import san_base, san_cocostuff3


def get_config():
    return san_base.variant(san_cocostuff3.get_config(), "generator_vit4")
