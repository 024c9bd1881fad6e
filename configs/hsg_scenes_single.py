"""HSG, small, on the embedded scenes, with one view of each image.

python -m jaxseg.main --config=configs/hsg_scenes_single.py

As configs/hsg_scenes.py in all else.

Hardware: two CPU cores. Published: none; measured: not run.
"""

from configs import hsg_scenes


def get_config():
    config = hsg_scenes.get_config()
    config.data.views = 1
    return config
