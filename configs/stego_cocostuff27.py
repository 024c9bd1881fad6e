"""STEGO on COCO-Stuff, 27 classes.

python -m jaxseg.main --config=configs/stego_cocostuff27.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert. The linear probe beside it reads
labels; nothing else does.

Hardware and hours: not run. Published: 48.3 Acc, 24.5 mIoU, without CRF 46.5 and 22.4; measured:
not run.
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.cocostuff27(stego_base.stego(clusters=27))
    return frozen_base.linear_probe(config, classes=27)
