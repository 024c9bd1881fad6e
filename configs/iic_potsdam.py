"""IIC on Potsdam, six classes, with infrared.

python -m jaxseg.main --config=configs/iic_potsdam.py --config.data.root=DIR

Trained on all tiles, matched and scored on the labelled, as released.

Hardware and hours: not run. Published: 45.4 Acc; measured: not run.
"""

from configs import iic_base


def get_config():
    config = iic_base.potsdam(
        iic_base.iic(clusters=6, overclusters=36, batch_size=60, images=8_550)
    )
    config.data.name = "potsdam"
    config.method.displacement = 5
    config.optim.learning_rate = 1e-6
    return config
