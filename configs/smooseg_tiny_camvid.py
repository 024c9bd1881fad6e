"""SmooSeg on CamVid street images, on a ViT-Tiny/16 supervised on ImageNet.

python -m jaxseg.main --config=configs/smooseg_tiny_camvid.py \
    --config.data.root=DIR --config.method.weights=FILE

This is no self-supervised result: FILE holds a ViT-Tiny/16 that was trained with ImageNet's labels,
through python -m jaxseg.convert with --mean=0.5,0.5,0.5 --std=0.5,0.5,0.5.

The thresholds are those that --mode=suggest_thresholds proposes here; the released code's default
collapses to one cluster. Hardware: two CPU cores, about 10 minutes, most of it evaluation with the
CRF, and as many before the first run for the features that --config.data.tokens=DIR keeps.
Published: none. Measured: Acc 72.5, mIoU 32.2, with CRF 79.5 and 38.1 (mean of seeds
0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.camvid(smooseg_base.smooseg(clusters=11, steps=1000))
    config.method.beta_within = 0.3
    return frozen_base.tiny(config)
