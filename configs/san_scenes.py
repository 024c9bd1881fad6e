"""SAN, small, on the embedded scenes.

python -m jaxseg.main --config=configs/san_scenes.py

The network has a sixteenth of the features (P = 64), for two CPU cores. Without the reconstruction:
--config.method.reconstruction_weight=0.

Hardware: two CPU cores. Published: none; measured: not run.
"""

from configs import san_base


def get_config():
    return san_base.scenes(san_base.san(clusters=8))
