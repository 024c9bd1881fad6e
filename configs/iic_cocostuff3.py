"""IIC on COCO-Stuff-3 (sky, plant, ground).

python -m jaxseg.main --config=configs/iic_cocostuff3.py --config.data.root=DIR

One set of images is trained on, matched and scored, as released: the curated images of both splits.
The steps of a pass are those of 37,000 images; set method.steps_per_pass to the number of images,
which the run prints, over 120.

Hardware and hours: not run. Published: 72.3 Acc; measured: not run.
"""

from configs import iic_base, picie_base


def get_config():
    config = picie_base.cocostuff15(
        iic_base.iic(clusters=3, overclusters=15, batch_size=120, images=37_000)
    )
    config.data.name = "cocostuff3"
    config.data.train_list = "few6"
    config.data.val_list = "few6"
    config.method.lam_b = 1.5
    return iic_base.coco(config)
