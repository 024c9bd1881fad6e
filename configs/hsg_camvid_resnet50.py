"""HSG on CamVid with the paper's network and crops, for one GPU.

python -m jaxseg.main --config=configs/hsg_camvid_resnet50.py --config.data.root=DIR

ResNet-50, crops of 448, 48 images of two views a step; regions come from a simple
over-segmentation.

Hardware: one GPU. Published: none; measured: not run.
"""

from configs import frozen_base, hsg_base


def get_config():
    config = hsg_base.street(hsg_base.hsg(classes=11))
    config = frozen_base.camvid(config)
    config.data.regions = "graph"
    config.data.batch_size = 48
    config.train.epochs = 0
    config.train.steps = 2000
    return config
