#!/usr/bin/env bash
# Trains on a Cloud TPU slice, on all of its machines.
#
#   launch/cloud_tpu.sh [--dry-run] create            # the slice, with jaxseg and its versions on it
#   launch/cloud_tpu.sh [--dry-run] run FLAGS...      # starts jaxseg.main on all machines
#   launch/cloud_tpu.sh [--dry-run] logs              # follows the first machine
#   launch/cloud_tpu.sh [--dry-run] keep FLAGS...     # create and run; again after each preemption
#   launch/cloud_tpu.sh [--dry-run] delete
#
# The environment says which: TPU (a name), ZONE, TYPE (such as v5litepod-16), VERSION (of the TPU
# software, such as v2-alpha-tpuv5-lite), SPOT=1 for a preemptible one. Google's command-line tool
# has to be logged in to a project. Data and --workdir have to lie in a folder that all machines
# share, which SETUP, a command for each machine, may mount. With --dry-run commands are printed.
set -euo pipefail

usage() {
    sed -n '2,13s/^# \{0,1\}//p' "$0"
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
    local archive
    archive=$(mktemp --suffix=.tar.gz)
    do_it git archive --format=tar.gz --output="$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" "$TPU:jaxseg.tar.gz" --zone="$ZONE" --worker=all
    rm -f "$archive"
    everywhere "${SETUP:-true} && mkdir -p jaxseg && tar -xzf jaxseg.tar.gz -C jaxseg && cd jaxseg \
&& python3 -m venv .venv && .venv/bin/python -m pip install -q -c constraints.txt '.[tpu]'"
}

run() {
    [[ $# -ge 1 ]] || usage
    local flags
    flags=$(printf '%q ' "$@")
    # Detached, for the connection may end before the training. What it ended with is kept.
    everywhere "cd jaxseg && rm -f train.status && { nohup sh -c '.venv/bin/python -m jaxseg.main \
--distributed \"\$@\"; echo \$? >train.status' train $flags >train.log 2>&1 & }"
}

keep() {
    while :; do
        local state status
        state=$(gcloud compute tpus tpu-vm describe "$TPU" --zone="$ZONE" --format='value(state)' \
            2>/dev/null || true)
        case $state in
        READY)
            # Nothing while it trains; "none" where the machines are there again, but restarted.
            status=$(tpu ssh --worker=0 --command='cd jaxseg && cat train.status 2>/dev/null ||
                pgrep -f "[j]axseg.main" >/dev/null || echo none' || true)
            case $status in
            '') ;;
            none | 143) run "$@" ;;
            *)
                echo "The run ended with status $status; see: $0 logs" >&2
                exit "$status"
                ;;
            esac
            ;;
        CREATING | STARTING | REPAIRING | RESTARTING) ;;
        *)
            [[ -z $state ]] || tpu delete --quiet
            create && run "$@"
            ;;
        esac
        sleep "${EVERY:-60}"
    done
}

case $action in
create) create ;;
run) run "$@" ;;
logs) tpu ssh --worker=0 --command='tail -n +1 -F jaxseg/train.log' ;;
keep)
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
