"""InfoSeg, small, on CamVid street images, trained on train and scored on val.

python -m jaxseg.main --config=configs/infoseg_camvid.py --config.data.root=DIR

DIR holds images/{train,val} and labels/{train,val}. Hardware: two CPU cores, about 5 minutes.
Published number: none. Measured: Acc 33.0 (three seeds), below colour k-means at 48.5; why, is in
benchmarks/RESULTS.md.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.shrink(infoseg_base.infoseg(clusters=11), width=8, features=128)
    config.data.name = "camvid"
    config.data.root = "data/camvid"
    config.data.on_corrupt = "error"  # or "skip"
    config.data.cache = True
    config.data.resize = 128
    config.data.crop = 96
    config.data.test_resize = 128
    config.data.test_crop = 0  # whole images
    config.data.test_pad_multiple = 4
    config.data.batch_size = 32
    config.train.epochs = 0
    config.train.steps = 300
    config.optim.learning_rate = 1e-3
    return config
