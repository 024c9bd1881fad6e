"""STEGO on CamVid street images, on a ViT-Tiny/16 supervised on ImageNet.

python -m jaxseg.main --config=configs/stego_tiny_camvid.py \
    --config.data.root=DIR --config.method.weights=FILE

This is no self-supervised result: FILE holds a ViT-Tiny/16 that was trained with ImageNet's labels,
through python -m jaxseg.convert with --mean=0.5,0.5,0.5 --std=0.5,0.5,0.5.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.camvid(stego_base.stego(clusters=11))
    stego_base.weigh(config, *stego_base.STREETS)
    config.train.steps = 1000
    return frozen_base.tiny(config)
