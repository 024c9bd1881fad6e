"""STEGO on CamVid street images, on a ViT-Tiny/16 supervised on ImageNet.

python -m jaxseg.main --config=configs/stego_tiny_camvid.py \
    --config.data.root=DIR --config.method.weights=FILE

This is no self-supervised result: FILE holds a ViT-Tiny/16 that was trained with ImageNet's labels,
through python -m jaxseg.convert with --mean=0.5,0.5,0.5 --std=0.5,0.5,0.5.

It COLLAPSES here: on this backbone's features STEGO's published weights and shifts (COCO's here;
stego_base.STREETS as well) lead to one or two clusters.

Hardware: one CPU core, shared, 12 minutes with the CRF, and 4 before the first run for the
features that --config.data.tokens=DIR keeps. Published: none. Measured: Acc 31.6, mIoU 3.5, with
CRF 30.1 and 3.1 (mean of seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.camvid(stego_base.stego(clusters=11))
    config.train.steps = 1000
    return frozen_base.tiny(config)
