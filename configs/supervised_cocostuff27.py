"""The supervised ceiling on COCO-Stuff-27.

python -m jaxseg.main --config=configs/supervised_cocostuff27.py --config.data.root=DIR

IT READS LABELS in training: no result of learning without them.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, supervised_base


def get_config():
    return frozen_base.cocostuff27(supervised_base.supervised(classes=27))
