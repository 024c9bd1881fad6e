"""InfoSeg on COCO-Persons (person against the rest; the list of images is our own).

python -m jaxseg.main --config=configs/infoseg_cocopersons.py --config.data.root=DIR

DIR holds train2017 and annotations/instances_train2017.json (see jaxseg/data/cocopersons.py, which
states the rule of the list). One set of 15,399 images is trained on, matched and scored.

Hardware and hours: not run. Published: 69.6 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=2)
    config.data.name = "cocopersons"
    config.data.root = "data/coco"
    config.data.images = "{split}2017"
    config.data.annotations = "annotations/instances_{split}2017.json"
    config.data.side = 128  # the images are crops of this side; 0 = the photographs
    config.data.count = 15_399
    config.data.people_list = "persons"  # by the rule; or "all" images with people
    config.data.lists_dir = "jaxseg-lists"  # keeps the list, computed once
    config.data.on_corrupt = "error"  # or "skip"
    config.data.check = "none"  # or "headers": look for damaged files at the start
    config.data.train_split = "train"
    config.data.test_split = "train"
    return config
