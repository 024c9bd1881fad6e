"""PiCIE's network fine-tuned with labels, small, on the embedded scenes: a transfer run.

python -m jaxseg.main --config=configs/picie_scenes.py
python -m jaxseg.main --config=configs/supervised_scenes_transfer.py

IT READS LABELS in training: no result of learning without them. It begins with the backbone and the
pyramid of the first command's run (--config.train.init_from=WORKDIR names another) and is otherwise
configs/supervised_scenes.py, which begins from scratch.

Hardware: one shared CPU core, 2 to 3 minutes of training. Published: none. Measured: Acc 90.7 and
90.5, mIoU 80.6 and 80.6 (seeds 0, 1, each from PiCIE's run of that seed; benchmarks/RESULTS.md), no
better than from scratch.
"""

from configs import supervised_base, supervised_scenes


def get_config():
    return supervised_base.transfer(supervised_scenes.get_config(), "runs/picie_scenes")
