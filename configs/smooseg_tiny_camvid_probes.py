"""SmooSeg on CamVid with a linear and a cluster probe beside it, on a supervised ViT-Tiny/16.

python -m jaxseg.main --config=configs/smooseg_tiny_camvid_probes.py \
    --config.data.root=DIR --config.method.weights=FILE

The linear probe READS LABELS, to tell what the features hold; SmooSeg does not see them. Its cross
entropy is taken at the labels' resolution, hence the small batch.

Hardware: one CPU core, 9 minutes of training. Published: none. Measured, with thresholds of 0.3 and
0.5: linear probe Acc 82.4, mIoU 42.2, cluster probe 70.9 and 30.1, SmooSeg 68.3 and 29.0 (seed 0;
benchmarks/RESULTS.md).
"""

from configs import frozen_base, smooseg_tiny_camvid


def get_config():
    config = frozen_base.linear_probe(smooseg_tiny_camvid.get_config(), classes=11)
    config.method.online_probes.clusters = 11
    config.evals.cluster_probe = frozen_base.evaluation(source="cluster_probe")
    config.optim.groups.cluster_probe = frozen_base.learning_rate(5e-3)
    config.data.batch_size = 8
    config.train.steps = 300
    return config
