"""Scores the groups of a run of hsg_coco.py, or of its ablations, on VOC 2012: NFCovering.

python -m jaxseg.main --config=configs/hsg_coco_voc_levels.py --mode=evaluate \
    --workdir=runs/hsg_coco --config.data.root=DIR

Each level of groups, and those that k-means, normalised cuts, FINCH and contours give, is compared
with the masks of the classes; background and unlabelled pixels are left out. Images are val
(1,449), the longer side brought to 512, and scored at that size. DIR is VOCdevkit/VOC2012. Runs of
other sizes of groups need method.sizes, and the `sizes` of the three other groupings, set alike.

Hardware and hours: not run. Published: curves without numbers; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.voc_levels(hsg_base.hsg(classes=21))
