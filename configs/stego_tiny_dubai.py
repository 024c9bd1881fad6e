"""STEGO on aerial images of Dubai, on a ViT-Tiny/16 supervised on ImageNet.

python -m jaxseg.main --config=configs/stego_tiny_dubai.py \
    --config.data.root=DIR --config.method.weights=FILE

This is no self-supervised result: FILE holds a ViT-Tiny/16 that was trained with ImageNet's labels,
through python -m jaxseg.convert with --mean=0.5,0.5,0.5 --std=0.5,0.5,0.5.

It COLLAPSES here: on this backbone's features STEGO's published weights and shifts (Potsdam's here)
lead to one cluster, or little more.

Hardware: one CPU core, shared, 3 minutes. Published: none. Measured: Acc 43.4, mIoU 9.6, with CRF
44.0 and 8.8 (mean of seeds 0, 1, 2; benchmarks/RESULTS.md).
"""

from configs import frozen_base, stego_base


def get_config():
    config = frozen_base.dubai(stego_base.stego(clusters=5))
    stego_base.weigh(config, *stego_base.AERIAL)
    config.train.steps = 300
    return frozen_base.tiny(config)
