"""HSG on your own images: any tree of JPEG, PNG, WebP or TIFF files.

python -m jaxseg.main --config=configs/hsg_folder.py --config.data.root=DIR

The network is small enough for two CPU cores; on a GPU, `--config.method.backbone=resnet50
--config.method.dim=128 --config.data.crop=448 --config.method.train_stride=16
--config.method.trained_cells=28 --config.method.segment_stride=8` is the paper's.

Hardware: two CPU cores. Published number: none; measured: not run.
"""

from configs import hsg_base


def get_config():
    return hsg_base.folder(hsg_base.hsg(classes=8))
