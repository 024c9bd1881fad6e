"""SmooSeg, small, on the embedded scenes.

python -m jaxseg.main --config=configs/smooseg_scenes.py --config.method.weights=FILE

FILE holds a ViT-Tiny/16, through python -m jaxseg.convert.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.scenes(smooseg_base.smooseg(clusters=8, steps=500))
    config.method.backbone = "vit_tiny_16"
    return config
