"""The scripts of launch/ say what they would do; test_processes.py runs local.sh."""

import os
import pathlib
import shlex
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = ["--config=configs/hsg_coco.py", "--config.method.sizes=(8, 4)", "--workdir=it's"]


def launch(script, *arguments, **environment):
    return subprocess.run(
        ["bash", f"launch/{script}", *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHON": "py"} | environment,
    )  # fmt: skip


def words(script, *arguments, **environment):
    """The commands that a dry run prints, as a shell would read them."""
    result = launch(script, "--dry-run", *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return [shlex.split(line) for line in result.stdout.splitlines()]


def test_local_starts_processes_that_know_one_another():
    lines = words("local.sh", "2", *FLAGS, PORT="1234")
    for number, line in enumerate(lines):
        given = ["JAXSEG_COORDINATOR=127.0.0.1:1234", "JAXSEG_PROCESSES=2"]
        assert line[:4] == ["env", *given, f"JAXSEG_PROCESS={number}"]
        assert line[-6:] == ["py", "-m", "jaxseg.main", *FLAGS]
    assert len(lines) == 2


def test_slurm_gives_each_task_its_number(tmp_path):
    (command,) = words("slurm.sbatch", *FLAGS)[1:]
    assert command[-6:] == ["py", "-m", "jaxseg.main", *FLAGS]
    # With programs in the place of Slurm's that run one task, which shows what it was given.
    fakes = {
        "scontrol": 'echo "$@" >>"$LOG"; [ "$1" = requeue ] || printf "one\\ntwo\\n"',
        "srun": 'shift; SLURM_PROCID=1 "$@"',
        "py": 'env | grep -E "^JAXSEG_(CO|PR)" >>"$LOG"; echo "$3" >>"$LOG"; exit 143',
    }
    for name, text in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    result = launch(
        "slurm.sbatch", *FLAGS, PATH=f"{tmp_path}:{os.environ['PATH']}", LOG=str(log),
        SLURM_SUBMIT_DIR=str(ROOT), SLURM_JOB_NODELIST="n[1-2]", SLURM_NTASKS="2", SLURM_JOB_ID="7",
    )  # fmt: skip
    assert result.returncode == 143, result.stderr
    lines = log.read_text().splitlines()
    assert lines[0] == "show hostnames n[1-2]"
    assert sorted(lines[1:4]) == [
        "JAXSEG_COORDINATOR=one:12355", "JAXSEG_PROCESS=1", "JAXSEG_PROCESSES=2"
    ]  # fmt: skip
    assert lines[4:] == [FLAGS[0], "requeue 7"]


def test_kubernetes_has_a_pod_for_each_process():
    result = launch("kubernetes/job.sh", "--dry-run", "seg", "4", "image:1", "claim", *FLAGS)
    assert result.returncode == 0, result.stderr
    service, job = yaml.safe_load_all(result.stdout)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (4, 4)
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert container["args"] == ["python", "-m", "jaxseg.main", *FLAGS]
    assert container["command"][2] == 'JAXSEG_PROCESS=$JOB_COMPLETION_INDEX exec "$@"'
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"JAXSEG_COORDINATOR": "seg-0.seg:12355", "JAXSEG_PROCESSES": "4"}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim"}


TPU = {"TPU": "slice", "ZONE": "zone", "TYPE": "v5litepod-16", "VERSION": "v2"}


def test_a_tpu_slice_is_made_filled_and_started():
    made, archived, sent, installed, started = words("cloud_tpu.sh", "keep", *FLAGS, **TPU)[:5]
    prefix = ["gcloud", "compute", "tpus", "tpu-vm"]
    assert made == [*prefix, "create", "slice", "--zone=zone", "--accelerator-type=v5litepod-16",
                    "--version=v2"]  # fmt: skip
    assert archived[:2] == ["git", "archive"]
    assert sent[:5] == [*prefix, "scp"]
    assert "--worker=all" in installed
    # On the machines a shell reads the command again: the flags arrive whole.
    remote = started[-1].removeprefix("--command=")
    assert shlex.split(remote)[-8:-3] == ["train", *FLAGS, ">train.log"]
    assert "--distributed" in remote
    spot = words("cloud_tpu.sh", "create", **TPU, SPOT="1")[0]
    assert spot[-1] == "--spot"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("local.sh", ["many"]),
        ("slurm.sbatch", []),
        ("kubernetes/job.sh", ["seg", "four", "image", "claim", "--config=x"]),
        ("cloud_tpu.sh", []),
    ],
)
def test_what_is_called_wrongly_tells_how_to_call_it(script, arguments):
    result = launch(script, *arguments)
    assert result.returncode == 2
    assert f"launch/{script}" in result.stdout
    assert "--dry-run" in result.stdout
