"""The scripts of launch/: what they would do, and what they do with programs of a cluster faked.

test_processes.py runs local.sh with jaxseg.
"""

import os
import pathlib
import shlex
import signal
import subprocess
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = ["--config=configs/hsg_coco.py", "--config.method.sizes=(8, 4)", "--workdir=it's"]
# Where the tests keep compiled programs is no matter of the scripts.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}


def launch(script, *arguments, **environment):
    return subprocess.run(
        ["bash", f"launch/{script}", *arguments], cwd=ROOT, capture_output=True, text=True,
        env=ENVIRONMENT | {"PYTHON": "py"} | environment,
    )  # fmt: skip


def words(script, *arguments, **environment):
    """The commands that a dry run prints, as a shell would read them."""
    result = launch(script, "--dry-run", *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return [shlex.split(line) for line in result.stdout.splitlines()]


def fake(folder, **programs):
    """Writes programs of the given text; returns the PATH that finds them first."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_local_starts_processes_that_know_one_another():
    lines = words("local.sh", "2", *FLAGS, PORT="1234")
    for number, line in enumerate(lines):
        given = ["JAXSEG_COORDINATOR=127.0.0.1:1234", "JAXSEG_PROCESSES=2"]
        assert line[:4] == ["env", *given, f"JAXSEG_PROCESS={number}"]
        assert line[-6:] == ["py", "-m", "jaxseg.main", *FLAGS]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        ((0, 0), 0),
        ((0, 3), 3),
        ((75, 3), 3),
        ((143, 143), 143),
        ((143, 134), 134),
    ],
)
def test_local_ends_with_the_status_of_what_failed(codes, status, tmp_path):
    program = f'codes=({codes[0]} {codes[1]}); exit "${{codes[$JAXSEG_PROCESS]}}"'
    result = launch("local.sh", "2", *FLAGS, PATH=fake(tmp_path, py=program), PORT="1")
    assert result.returncode == status, result.stderr


def test_local_stops_the_others_after_a_failure(tmp_path):
    path = fake(tmp_path, py='[ "$JAXSEG_PROCESS" = 1 ] || exec sleep 60; exit 3')
    began = time.monotonic()
    assert launch("local.sh", "2", *FLAGS, PATH=path, GRACE="0", PORT="1").returncode == 3
    assert time.monotonic() - began < 30


def test_local_passes_a_signal_on_and_ends_as_the_processes_do(tmp_path):
    path = fake(tmp_path, py='trap "touch $LOG; exit 0" TERM; echo up; while :; do sleep 0.1; done')
    process = subprocess.Popen(
        ["bash", "launch/local.sh", "1", *FLAGS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT | {"PYTHON": "py", "PORT": "1", "PATH": path, "LOG": f"{tmp_path}/told"},
    )
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
    assert (tmp_path / "told").exists()


SLURM = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "4099", "SLURM_CPUS_PER_TASK": "32",
         "SLURM_JOB_NUM_NODES": "2", "SLURM_SUBMIT_DIR": str(ROOT)}  # fmt: skip


@pytest.mark.parametrize("tasks", [2, 16])
def test_slurm_gives_each_task_its_number_and_its_devices(tasks, tmp_path):
    (command,) = words("slurm.sbatch", *FLAGS)[1:]
    assert command[-6:] == ["py", "-m", "jaxseg.main", *FLAGS]
    # With programs in the place of Slurm's that run one task, which shows what it was given.
    path = fake(
        tmp_path,
        scontrol='echo "$@" >>"$LOG"; [ "$1" = requeue ] || printf "one\\ntwo\\n"',
        srun='shift; SLURM_PROCID=1 SLURM_LOCALID=0 "$@"',
        py='echo "$3" >>"$LOG"; env >>"$LOG"; exit 143',
    )
    log = tmp_path / "log"
    result = launch(
        "slurm.sbatch", FLAGS[0], "--workdir=/shared/runs/one", PATH=path, LOG=str(log),
        SLURM_NTASKS=str(tasks), **SLURM,
    )  # fmt: skip
    assert result.returncode == 143, result.stderr
    lines = log.read_text().splitlines()
    assert lines[:2] == ["show hostnames n[1-2]", FLAGS[0]]
    assert lines[-1] == "requeue 4099"
    assert {
        "JAXSEG_COORDINATOR=one:61443", "JAXSEG_PROCESS=1", f"JAXSEG_PROCESSES={tasks}",
        "SRUN_CPUS_PER_TASK=32", "JAX_COMPILATION_CACHE_DIR=/shared/runs/compiled",
    } <= set(lines)  # fmt: skip
    # JAX takes the one device of this number, where it is told.
    assert ("SLURM_LOCALID=0" in lines) == (tasks == 16)


@pytest.mark.parametrize(
    ("status", "queued", "again"),
    [(0, 0, False), (1, 0, False), (75, 0, True), (134, 9, True), (75, 10, False), (143, 99, True)],
)
def test_slurm_queues_again_what_may_go_on(status, queued, again, tmp_path):
    told = tmp_path / "told"
    path = fake(
        tmp_path,
        scontrol='if [ "$1" = requeue ]; then echo "$2" >"$TOLD"; else echo one; fi',
        srun=f"exit {status}",
    )
    result = launch(
        "slurm.sbatch", *FLAGS, PATH=path, TOLD=str(told), SLURM_RESTART_COUNT=str(queued),
        SLURM_NTASKS="2", **SLURM,
    )  # fmt: skip
    assert result.returncode == status, result.stderr
    assert told.exists() == again


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
    assert environment == {
        "JAXSEG_COORDINATOR": "seg-0.seg:12355",
        "JAXSEG_PROCESSES": "4",
        "JAX_COMPILATION_CACHE_DIR": "./compiled",  # beside the work directory
    }
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim"}


def test_kubernetes_tries_again_only_what_may_go_better():
    result = launch("kubernetes/job.sh", "--dry-run", "seg", "4", "image:1", "claim", *FLAGS)
    _, job = yaml.safe_load_all(result.stdout)
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy needs
    # The first rule that fits counts, so that an evicted pod may end with any status.
    evicted, lost, wrong = job["spec"]["podFailurePolicy"]["rules"]
    condition = {"type": "DisruptionTarget", "status": "True"}
    assert evicted == {"action": "Ignore", "onPodConditions": [condition]}
    container = {"containerName": pod["containers"][0]["name"], "operator": "In"}
    assert lost == {"action": "Ignore", "onExitCodes": container | {"values": [75, 143]}}
    assert wrong == {"action": "FailJob", "onExitCodes": container | {"values": [1, 2]}}


def test_kubernetes_follows_the_newest_first_pod(tmp_path):
    path = fake(
        tmp_path, kubectl='[ "$1" = get ] && printf "%s\\n" pod/old pod/new "$@" | head -n 2; '
        'echo "$@" >>"$LOG"',
    )  # fmt: skip
    log = tmp_path / "log"
    result = launch("kubernetes/job.sh", "logs", "seg", PATH=path, LOG=str(log))
    assert result.returncode == 0, result.stderr
    asked, followed = log.read_text().splitlines()
    assert "job-name=seg,batch.kubernetes.io/job-completion-index=0" in asked.split()
    assert followed == "logs -f pod/new"


TPU = {"TPU": "slice", "ZONE": "zone", "TYPE": "v5litepod-16", "VERSION": "v2"}


def test_a_tpu_slice_is_made_filled_and_started():
    made, archived, sent, installed, ready, started = words("cloud_tpu.sh", "keep", *FLAGS, **TPU)[
        :6
    ]
    prefix = ["gcloud", "compute", "tpus", "tpu-vm"]
    assert made == [*prefix, "create", "slice", "--zone=zone", "--accelerator-type=v5litepod-16",
                    "--version=v2"]  # fmt: skip
    assert archived[:2] == ["git", "archive"]
    assert sent[:5] == [*prefix, "scp"]
    assert "--worker=all" in installed
    assert "py -m venv .venv" in installed[-1]
    assert ready[-1] == "--command=touch jaxseg/.installed"
    # On the machines a shell reads the command again: the flags arrive whole.
    remote = started[-1].removeprefix("--command=")
    assert shlex.split(remote)[-8:-3] == ["train", *FLAGS, ">train.log"]
    assert "--distributed" in remote
    assert "JAX_COMPILATION_CACHE_DIR=./compiled" in shlex.split(remote)
    spot = words("cloud_tpu.sh", "create", **TPU, SPOT="1")[0]
    assert spot[-1] == "--spot"


# Answers `describe` and questions to the first machine from lists, and notes what changes anything.
GCLOUD = """
next() { head -n 1 "$LOG.$1"; sed -i 1d "$LOG.$1"; }
case "$*" in
*describe*) answer=$(next slice)
    case $answer in [A-Z]*_*) echo "ERROR: (gcloud) $answer: ..." >&2; exit 1 ;; esac ;;
*--worker=0*) answer=$(next run); [ "$answer" != fails ] || exit 255 ;;
*touch*) exit ;;
*pkill*) echo kill >>"$LOG"; exit ;;
*--distributed*) echo run >>"$LOG"; exit ;;
*venv*) echo install >>"$LOG"; exit ;;
*" create "*) echo create >>"$LOG"; exit "${CREATED:-0}" ;;
*" delete "*) echo delete >>"$LOG"; exit ;;
esac
echo "$answer"
"""


def kept(folder, slices, runs, **environment):
    """What `keep` does while the slice and the run are in these states, one after another."""
    log = folder / "log"
    log.touch()
    for name, answers in (("slice", slices), ("run", runs)):
        log.with_suffix(f".{name}").write_text("".join(f"{answer}\n" for answer in answers))
    result = launch(
        "cloud_tpu.sh", "keep", *FLAGS, PATH=fake(folder, gcloud=GCLOUD),
        LOG=str(log), EVERY="0", **TPU, **environment,
    )  # fmt: skip
    return log.read_text().split(), result.returncode


READY = "READY"


def test_a_tpu_run_is_left_alone_while_nobody_can_tell_how_it_is(tmp_path):
    slices = ["UNAVAILABLE_", "UNAUTHENTICATED_", "CREATING", READY, READY, READY]
    assert kept(tmp_path, slices, ["fails", "training", "0"]) == ([], 0)


def test_a_tpu_slice_that_is_gone_is_made_anew(tmp_path):
    slices = [READY, "PREEMPTED", "NOT_FOUND", READY, READY, READY]
    done, status = kept(tmp_path, slices, ["training", "none", "training", "0"])
    assert (done, status) == (["delete", "create", "install", "kill", "run"], 0)


def test_a_tpu_slice_that_cannot_be_made_is_asked_for_again(tmp_path):
    done, _ = kept(tmp_path, ["NOT_FOUND", "NOT_FOUND", READY], ["0"], CREATED="1")
    assert done == ["create", "create"]  # and nothing is installed on it


@pytest.mark.parametrize("status", ["75", "134", "143"])
def test_a_tpu_run_goes_on_after_the_loss_of_a_process(status, tmp_path):
    done = kept(tmp_path, [READY] * 3, [status, "training", "0"])
    assert done == (["kill", "run"], 0)


def test_a_tpu_run_that_failed_is_not_tried_again(tmp_path):
    assert kept(tmp_path, [READY], ["1"]) == ([], 1)


def test_a_tpu_slice_without_jaxseg_gets_it(tmp_path):
    done, _ = kept(tmp_path, [READY] * 3, ["bare", "none", "0"])
    assert done == ["install", "kill", "run"]


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
