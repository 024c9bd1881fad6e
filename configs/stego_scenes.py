"""STEGO, small, on the embedded scenes.

python -m jaxseg.main --config=configs/stego_scenes.py --config.method.weights=FILE

FILE holds a ViT-Tiny/16, through python -m jaxseg.convert.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.scenes(stego_base.stego(clusters=8))
    config.method.backbone = "vit_tiny_16"
    config.train.steps = 500
    return config
