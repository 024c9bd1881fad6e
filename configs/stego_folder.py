"""STEGO on your own images: any tree of JPEG, PNG, WebP or TIFF files.

python -m jaxseg.main --config=configs/stego_folder.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert. Give method.backbone where it is
another.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.folder(stego_base.stego(clusters=8))
    config.data.test_pad_multiple = 8  # a patch
    return config
