"""SmooSeg on Potsdam, three classes, RGB, with DINOv2's ViT-B/14.

python -m jaxseg.main --config=configs/smooseg_potsdam3_dinov2.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINOv2's ViT-B/14, through python -m jaxseg.convert.

Hardware and hours: not run. Published: 86.3 Acc, 75.7 mIoU; measured: not run.
"""

from configs import smooseg_potsdam3


def get_config():
    config = smooseg_potsdam3.get_config()
    config.method.backbone = "dinov2_vit_base_14"
    config.method.beta_within = 0.32
    return config
