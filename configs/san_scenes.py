"""SAN, small, on the embedded scenes.

python -m jaxseg.main --config=configs/san_scenes.py

The network has a sixteenth of the features (P = 64), for two CPU cores. Without the reconstruction:
--config.method.reconstruction_weight=0.

Hardware: two CPU cores, about 5 processor minutes of training. Published: none. Measured, one seed:
Acc 29.8, mIoU 15.7, no better than k-means on colours (29.5, 16.0; benchmarks/RESULTS.md).
"""

from configs import san_base


def get_config():
    return san_base.scenes(san_base.san(clusters=8))
