"""SAN on your own images: any tree of JPEG, PNG, WebP or TIFF files.

python -m jaxseg.main --config=configs/san_folder.py --config.data.root=DIR

The network is small enough for two CPU cores; on a GPU, the method's fields in configs/san_base.py
are the paper's. Hardware: two CPU cores. Published number: none; measured: not run.
"""

from configs import frozen_base, san_base


def get_config():
    config = frozen_base.folder(san_base.small(san_base.san(clusters=8), crop=128))
    config.data.cache = False  # True keeps the decoded images, three bytes a pixel, in memory
    config.data.resize = 160
    config.data.test_resize = 160
    return config
