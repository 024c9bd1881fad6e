"""STEGO on Cityscapes, 27 classes.

python -m jaxseg.main --config=configs/stego_cityscapes27.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert. The linear probe beside it reads
labels; nothing else does.

Hardware and hours: not run. Published: 69.8 Acc, 17.6 mIoU, without CRF 63.5 and 16.8; measured:
not run.
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.cityscapes27(stego_base.stego(clusters=27))
    config.method.dim = 100  # of the released checkpoint
    stego_base.weigh(config, *stego_base.STREETS)
    return frozen_base.linear_probe(config, classes=27)
