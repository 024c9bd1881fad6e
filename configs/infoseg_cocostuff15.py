"""InfoSeg on COCO-Stuff-15.

python -m jaxseg.main --config=configs/infoseg_cocostuff15.py --config.data.root=DIR

DIR holds train2017, val2017 and stuffthingmaps (see jaxseg/data/coco.py). As in IIC, which the
paper says it follows, one set of images is trained on, matched and scored: the curated images of
both splits. The strict variant matches and scores on val alone: --config.data.test_split=val.

Hardware and hours: not run. Published: 38.8 Acc; measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.infoseg(clusters=15)
    config.data.name = "cocostuff15"
    config.data.root = "data/coco"
    config.data.images = "{split}2017"
    config.data.labels = "stuffthingmaps/{split}2017"
    config.data.train_list = "curated7"  # version 7 of IIC's curation
    config.data.val_list = "curated7"
    config.data.lists_dir = "jaxseg-lists"  # keeps the lists, computed once
    config.data.on_corrupt = "error"  # or "skip"
    config.data.check = "none"  # or "headers": look for damaged files at the start
    config.data.train_split = "train+val"
    config.data.test_split = "train+val"
    config.data.resize = 128
    config.data.test_resize = 128
    return config
