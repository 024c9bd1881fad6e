"""Ablation of HSG's table 4: normalised cuts in the place of the clustering transformer.

python -m jaxseg.main --config=configs/hsg_coco_ncut.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco.py in all else; there is no goodness of grouping to learn.

Hardware and hours: not run. Published: 41.3 mIoU on VOC val; measured: not run.
"""

from configs import hsg_coco


def get_config():
    config = hsg_coco.get_config()
    config.method.grouper = "ncut"
    config.optim.groups = {}  # no transformers
    return config
