"""SAN, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/san_camvid.py --config.data.root=DIR

DIR holds images/{train,val} and labels/{train,val}. The network has a sixteenth of the features
(P = 64), for two CPU cores.

Hardware: two CPU cores. Published: none; measured: Acc 46.3 after 120 seconds of one core
(benchmarks/RESULTS.md, "From scratch, by the clock"); the whole config: not run.
"""

from configs import frozen_base, san_base


def get_config():
    config = frozen_base.camvid(san_base.small(san_base.san(clusters=11), crop=96))
    return san_base.short(config)
