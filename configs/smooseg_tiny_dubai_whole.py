"""SmooSeg on aerial images of Dubai, tested on whole images in squares that are put together again.

python -m jaxseg.main --config=configs/smooseg_tiny_dubai_whole.py \
    --config.data.root=DIR --config.method.weights=FILE

As smooseg_tiny_dubai, but test images keep the scale of the training crops, twice that of a 320
test crop, and are predicted in squares of 320 pixels; k-means sees them whole.

Hardware: one CPU core, shared; evaluation 5 minutes without k-means. Published: none. Measured: Acc
58.5, mIoU 23.4, with CRF 62.7 and 25.6 (seed 0, trained as smooseg_tiny_dubai;
benchmarks/RESULTS.md).
"""

from configs import smooseg_tiny_dubai


def get_config():
    config = smooseg_tiny_dubai.get_config()
    config.data.test_resize = 640
    config.data.test_crop = 0  # whole images
    config.data.test_pad_multiple = 320
    config.train.monitor_every = config.train.steps  # it looks at images whole, which takes long
    for name in ("smooseg", "smooseg_crf", "backbone_kmeans", "backbone_kmeans_crf"):
        config.evals[name].tile = 320
    for name in ("backbone_kmeans", "backbone_kmeans_crf"):
        config.evals[name].fit_limit = 40
    return config
