"""SmooSeg on aerial images of Dubai, on a ViT-Tiny/16 supervised on ImageNet.

python -m jaxseg.main --config=configs/smooseg_tiny_dubai.py \
    --config.data.root=DIR --config.method.weights=FILE

This is no self-supervised result: FILE holds a ViT-Tiny/16 that was trained with ImageNet's labels,
through python -m jaxseg.convert with --mean=0.5,0.5,0.5 --std=0.5,0.5,0.5.

The thresholds, the released code's default, are also those that --mode=suggest_thresholds proposes
here. K-means on the backbone's features does better.

Hardware: one CPU core, shared, 5 minutes. Published: none. Measured: Acc 49.0, mIoU 18.0, with CRF
49.7 and 18.7 (mean of seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.dubai(smooseg_base.smooseg(clusters=5, steps=300))
    return frozen_base.tiny(config)
