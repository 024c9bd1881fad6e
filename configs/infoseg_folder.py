"""InfoSeg on your own images: any tree of JPEG, PNG, WebP or TIFF files.

python -m jaxseg.main --config=configs/infoseg_folder.py --config.data.root=DIR

The network is small enough for two CPU cores; on a GPU, `--config.method.features=1024` and the
widths of configs/infoseg_base.py are the paper's. Hardware: two CPU cores. Published number: none;
measured: not run.
"""

from configs import infoseg_base


def get_config():
    config = infoseg_base.shrink(infoseg_base.infoseg(clusters=8), width=8, features=128)
    config.data.name = "folder"
    config.data.root = ""  # your folder
    config.data.images = ""  # sub-folder of the images
    config.data.labels = ""  # sub-folder of label PNGs; "" = a_label.png beside a.jpg, if any
    config.data.split_list = ""  # text file with the names to use, one a line; "" = all
    config.data.class_names = ()  # names of the label values 0, 1, ...; () = labels are not read
    config.data.ignore = (255,)  # label values that no score counts
    config.data.on_corrupt = "error"  # or "skip"
    # "{split}" in images, labels or split_list stands for these; here both are the whole folder.
    config.data.train_split = "all"
    config.data.test_split = "all"
    config.data.cache = False  # True keeps the decoded images, three bytes a pixel, in memory
    config.data.resize = 160
    config.data.test_resize = 160
    config.data.test_crop = 0  # whole images
    config.data.batch_size = 16
    config.train.epochs = 0
    config.train.steps = 400
    config.optim.learning_rate = 1e-3
    return config
