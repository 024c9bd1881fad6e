"""Stage 1 of the single-view rows of HSG's table 3.

python -m jaxseg.main --config=configs/hsg_coco_stage1_single.py \
    --config.data.root=DIR --config.data.regions=DIR2

As configs/hsg_coco_stage1.py with one view of each image, and k-means from 4 x 4 starts, without
which no pixel would have positives.

Hardware and hours: not run. Published: no score of its own; measured: not run.
"""

from configs import hsg_coco_stage1


def get_config():
    config = hsg_coco_stage1.get_config()
    config.data.views = 1
    config.method.grid = (4, 4)
    return config
