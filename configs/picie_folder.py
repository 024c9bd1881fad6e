"""PiCIE on your own images: any tree of JPEG, PNG, WebP or TIFF files.

python -m jaxseg.main --config=configs/picie_folder.py --config.data.root=DIR

The network is small enough for two CPU cores; on a GPU, the fields of configs/picie_base.py are the
paper's, with a weights file.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, picie_base


def get_config():
    config = frozen_base.folder(picie_base.picie(clusters=8))
    config.train.epochs = 20
    return picie_base.small(config, size=128, base=192)
