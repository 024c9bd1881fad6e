"""Scores the groups of a run of hsg_coco.py, or of its ablations, on DensePose-COCO: F-score.

python -m jaxseg.main --config=configs/hsg_coco_densepose.py --mode=evaluate \
    --workdir=runs/hsg_coco --config.data.root=DIR

Each level of groups, and those that k-means, normalised cuts, FINCH and contours give, is compared
with people (the class, and each of them) and with head, torso, upper and lower limbs: the largest
F-score of each labelled region, averaged over regions, which is our reading of the paper. Images
are minival, the longer side brought to 512, and scored at that size; only some people of an image
are annotated. DIR holds annotations/densepose_coco_2014_minival.json and the photographs of COCO
(see jaxseg/data/densepose.py).

Hardware and hours: not run. Published: curves without numbers; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.densepose(hsg_base.hsg(classes=1))
