"""The supervised ceiling on Cityscapes, 27 classes.

python -m jaxseg.main --config=configs/supervised_cityscapes27.py --config.data.root=DIR

IT READS LABELS in training: no result of learning without them.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, supervised_base


def get_config():
    return frozen_base.cityscapes27(supervised_base.supervised(classes=27))
