"""SmooSeg on COCO-Stuff, 27 classes, with MoCo-v2's ResNet-50.

python -m jaxseg.main --config=configs/smooseg_mocov2_cocostuff27.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds MoCo-v2's ResNet-50, through python -m jaxseg.convert. Its thresholds are not published;
these are DINO's.

Hardware and hours: not run. Published: 52.4 Acc, 18.8 mIoU; measured: not run.
"""

from configs import smooseg_cocostuff27


def get_config():
    config = smooseg_cocostuff27.get_config()
    config.method.backbone = "resnet50"  # res5: 7 x 7 cells of 2048 features
    return config
