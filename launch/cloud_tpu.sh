#!/usr/bin/env bash
# Trains on a Cloud TPU slice, on all of its machines.
#
#   launch/cloud_tpu.sh [--dry-run] create            # the slice, with jaxseg and its versions on it
#   launch/cloud_tpu.sh [--dry-run] install           # the latter, on a slice that is there
#   launch/cloud_tpu.sh [--dry-run] run FLAGS...      # starts jaxseg.main on all machines
#   launch/cloud_tpu.sh [--dry-run] logs              # follows the first machine
#   launch/cloud_tpu.sh [--dry-run] keep FLAGS...     # create and run; again after each preemption
#   launch/cloud_tpu.sh [--dry-run] delete
#
# The environment says which: TPU (a name), ZONE, TYPE (such as v5litepod-16), VERSION (of the TPU
# software, such as v2-alpha-tpuv5-lite), SPOT=1 for a preemptible one. Google's command-line tool
# has to be logged in to a project. Data and --workdir have to lie in a folder that all machines
# share, which SETUP, a command for each machine, may mount. PYTHON names the machines' interpreter
# (default: python3), 3.11 or newer, which SETUP may install. With --dry-run commands are printed.
set -euo pipefail

usage() {
    sed -n '2,15s/^# \{0,1\}//p' "$0"
    exit 2
}

dry_run=
if [[ ${1-} == --dry-run ]]; then
    dry_run=1
    shift
fi
[[ $# -ge 1 ]] || usage
action=$1
shift
: "${TPU:?name the slice, TPU=...}" "${ZONE:?name its zone, ZONE=...}"

do_it() {
    if [[ -n $dry_run ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}
tpu() { do_it gcloud compute tpus tpu-vm "$1" "$TPU" --zone="$ZONE" "${@:2}"; }
everywhere() { tpu ssh --worker=all --command="$1"; }

create() {
    : "${TYPE:?name the type, TYPE=...}" "${VERSION:?name the software, VERSION=...}"
    tpu create --accelerator-type="$TYPE" --version="$VERSION" ${SPOT:+--spot}
    install
}

install() {
    local archive python=${PYTHON:-python3}
    archive=$(mktemp --suffix=.tar.gz)
    do_it git archive --format=tar.gz --output="$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" "$TPU:jaxseg.tar.gz" --zone="$ZONE" --worker=all
    rm -f "$archive"
    everywhere "${SETUP:-true} && mkdir -p jaxseg && tar -xzf jaxseg.tar.gz -C jaxseg && cd jaxseg \
&& $python -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
\"jaxseg needs Python 3.11 or newer: install one by SETUP and name it by PYTHON\")' \
&& $python -m venv .venv && .venv/bin/python -m pip install -q -c constraints.txt '.[tpu]'"
    everywhere 'touch jaxseg/.installed' # only once all machines have it
}

run() {
    [[ $# -ge 1 ]] || usage
    local flags workdir cache
    flags=$(printf '%q ' "$@")
    workdir=$(printf '%s\n' "$@" | sed -n 's/^--workdir=//p')
    cache=${JAX_COMPILATION_CACHE_DIR-$(dirname "${workdir:-runs/.}")/compiled}
    # Detached, for the connection may end before the training. What it ended with is kept.
    everywhere "cd jaxseg && rm -f train.status && { JAX_COMPILATION_CACHE_DIR=$(printf '%q' "$cache") \
nohup sh -c '.venv/bin/python -m jaxseg.main --distributed \"\$@\"; echo \$? >train.status' \
train $flags >train.log 2>&1 & }"
}

# Prints the slice's state, GONE where there is none; fails where nobody can tell at the moment.
state() {
    if tpu describe --format='value(state)' 2>"$errors"; then
        return
    elif grep -q NOT_FOUND "$errors"; then
        echo GONE
    else
        cat "$errors" >&2
        return 1
    fi
}

# Prints what the first machine does: bare (of jaxseg), none, training, or what the run ended with.
progress() {
    tpu ssh --worker=0 --command='cd jaxseg 2>/dev/null && [ -e .installed ] || { echo bare; exit; }
        cat train.status 2>/dev/null || { pgrep -f "[j]axseg.main" >/dev/null && echo training; } ||
        echo none'
}

# In a shell of its own, which ends at the first failure: one in a condition would go on.
attempt() { bash "$0" "$@" || echo "Could not $1; tried again in ${EVERY:-60} s." >&2; }

keep() {
    local slice status
    errors=$(mktemp)
    trap 'rm -f "$errors"' EXIT
    while :; do
        slice=$(state) || slice=
        case $slice in
        READY)
            status=$(progress) || status=
            case $status in
            bare) attempt install ;;
            # Restarted machines, a lost process (75, or 134 where JAX aborts for it), a signal. What
            # the other machines still run waits for a process that is gone.
            none | 75 | 134 | 143)
                everywhere 'pkill -KILL -f "[j]axseg.main"; true' && attempt run "$@"
                ;;
            [0-9]*)
                echo "The run ended with status $status; see: $0 logs" >&2
                exit "$status"
                ;;
            esac
            ;;
        GONE) attempt create ;;
        PREEMPTED | TERMINATED) attempt delete ;;
        ?*) echo "The slice is $slice." >&2 ;;
        esac
        sleep "${EVERY:-60}"
    done
}

case $action in
create | install) "$action" ;;
run) run "$@" ;;
logs) tpu ssh --worker=0 --command='tail -n +1 -F jaxseg/train.log' ;;
keep)
    [[ $# -ge 1 ]] || usage
    if [[ -n $dry_run ]]; then
        create
        run "$@"
        echo "# every ${EVERY:-60} seconds: where the slice is gone, both again"
    else
        keep "$@"
    fi
    ;;
delete) tpu delete --quiet ;;
*) usage ;;
esac
