"""Short runs of a config that try something out and read no labels."""

import copy

from ml_collections import ConfigDict

_PROBES = ("linear_probe", "cluster_probe")  # groups of parameters of `online_probes`


def short_run(config: ConfigDict, steps: int) -> ConfigDict:
    """Returns the config of a run of `steps` steps, without evaluations and probes beside it."""
    trial = copy.deepcopy(config)
    groups = config.optim.get("groups") or {}
    with trial.unlocked():
        trial.method.online_probes = None
        trial.optim.groups = ConfigDict({k: v for k, v in groups.items() if k not in _PROBES})
        trial.train.update(
            steps=steps, epochs=0, save_every=steps, log_every=min(50, steps), monitor_every=steps
        )
        trial.evals = ConfigDict()
    return trial
