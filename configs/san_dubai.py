"""SAN, small, on aerial images of Dubai.

python -m jaxseg.main --config=configs/san_dubai.py --config.data.root=DIR

The network has a sixteenth of the features (P = 64), for two CPU cores.

Hardware: two CPU cores. Published: none; measured: Acc 65.8 after 120 seconds of one core
(benchmarks/RESULTS.md, "From scratch, by the clock"); the whole config: not run.
"""

from configs import frozen_base, san_base


def get_config():
    config = frozen_base.dubai(san_base.small(san_base.san(clusters=5), crop=96))
    config.data.batch_size = 12
    config.data.test_crop = 0  # whole images
    return san_base.short(config)
