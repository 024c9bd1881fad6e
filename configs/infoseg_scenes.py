"""InfoSeg, small, on the embedded scenes: the demo.

python -m jaxseg.main --config=configs/infoseg_scenes.py

Hardware: two CPU cores, 6 to 9 minutes. Published number: none. Measured: Acc 22.8 (seeds 27.0,
20.3, 21.0), below colour k-means at 29.1; why, is in benchmarks/RESULTS.md.
"""

from ml_collections import config_dict

from configs import infoseg_base


def get_config():
    config = infoseg_base.shrink(infoseg_base.infoseg(clusters=8), width=8, features=128)
    config.data.name = "scenes"
    config.data.size = 96
    config.data.seed = 0
    config.data.count = config_dict.placeholder(int)  # images of a split; None = 2000 and 300
    config.data.cache = True
    config.data.crop = 96
    config.data.test_crop = 96
    config.data.batch_size = 32
    config.train.steps = 500
    config.train.epochs = 0
    config.optim.learning_rate = 1e-3
    return config
