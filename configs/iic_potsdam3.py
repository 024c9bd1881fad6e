"""IIC on Potsdam, three classes, with infrared.

python -m jaxseg.main --config=configs/iic_potsdam3.py --config.data.root=DIR

Trained on all tiles, matched and scored on the labelled, as released.

Hardware and hours: not run. Published: 65.1 Acc; measured: not run.
"""

from configs import iic_base


def get_config():
    config = iic_base.potsdam(
        iic_base.iic(clusters=3, overclusters=24, batch_size=75, images=8_550)
    )
    config.data.name = "potsdam3"
    config.method.lam_b = 1.5
    config.optim.learning_rate = 1e-5
    return config
