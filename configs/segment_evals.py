"""Entries of `evals` that score segments: retrieval of their classes, and hierarchies of groups."""

from ml_collections import ConfigDict

from configs import infoseg_base


def retrieval(model: str = "trained", **fields) -> ConfigDict:
    """Returns an entry that looks the classes of segments up in labelled training images.

    It READS THE LABELS of the training split, which no other evaluation here does, and is scored as
    in the released HSG. `fields` differ from its defaults.
    """
    defaults = {
        "probe": "retrieval",
        "source": "features",
        "matching": "identity",
        "absent": "zero",
        "grid": (6, 6),  # Cityscapes: (12, 24), KITTI-STEP: (6, 12)
        "rounds": 15,
        "neighbours": 20,  # k; SegSort: 15
    }
    return infoseg_base.evaluation(model, **(defaults | fields))


def hierarchy(model: str = "trained", **fields) -> ConfigDict:
    """Returns an entry that compares the levels of groups in each image with labelled regions.

    `fields` differ from its defaults; `matching`, `label`, `upsample`, `resolution`, `absent`,
    `refine` and `fit_limit` of an entry do nothing here.
    """
    defaults = {
        "probe": "hierarchy",
        "labels": ("class",),  # the first gives classes; and "part", "instance" where there are any
        "background": (),  # classes that NFCovering and the F-score leave out
        "ignored": "outside",  # pixels without a label; or "dropped"
        "source": "levels",  # of the method; or "features", then grouped as the fields below say
        "grid": (6, 6),
        "rounds": 15,
        "grouper": "kmeans",  # or "ncut", "finch"
        "sizes": (8, 4),
    }
    return infoseg_base.evaluation(model, **(defaults | fields))


def groupings(name: str, suffix: str, sizes: tuple[int, ...], **regions) -> dict[str, ConfigDict]:
    """Returns the entries, `NAME_SUFFIX` and so on, that score a hierarchy beside what could be it.

    The levels of method `name`, other groupings of its segments to levels of `sizes`, and contours,
    whose levels are 12, 6 and 3; all compared with `regions`, fields of `hierarchy`.
    """
    grouped = {
        f"{name}_{grouper}_{suffix}": hierarchy(
            source="features", grouper=grouper, sizes=sizes, **regions
        )
        for grouper in ("kmeans", "ncut", "finch")
    }
    return {
        f"{name}_{suffix}": hierarchy(**regions),
        **grouped,
        f"contours_{suffix}": hierarchy("contours", **regions),
    }


def scenes(config: ConfigDict, name: str, sizes: tuple[int, ...]) -> ConfigDict:
    """Sets the evaluations of method `name`, which has levels of `sizes`, on the embedded scenes.

    The untrained network, plain colours and contours are scored by the same measures; `sizes` are
    not those of the contours' levels, which are 12, 6 and 3.
    """
    regions = {
        "labels": ("class", "part", "instance"),
        "background": ("sky", "ground", "water", "foliage"),
        "sizes": sizes,
    }
    grouped = regions | {"source": "features"}
    config.evals = ConfigDict(
        {
            f"{name}_retrieval": retrieval(fit_limit=400),
            "untrained_retrieval": retrieval("untrained", fit_limit=400),
            "colour_retrieval": retrieval("colour", fit_limit=400),
            f"{name}_levels": hierarchy(**regions),
            "untrained_levels": hierarchy("untrained", **grouped),
            "colour_levels": hierarchy("colour", **grouped),
            "contours_levels": hierarchy("contours", **regions),
        }
    )
    return config
