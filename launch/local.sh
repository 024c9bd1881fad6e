#!/usr/bin/env bash
# Trains with several processes on this machine; the first one writes, and tells what happens.
#
#   launch/local.sh [--dry-run] N --config=configs/hsg_scenes.py [flags of jaxseg.main]
#
# One process drives all devices of a machine, so that N = 1 is the usual choice: this is for trying
# out what several machines do. With NVIDIA GPUs each process gets the one of its number. Where one
# process ends in an error the others are stopped, and the same command goes on from the last
# checkpoint. PYTHON names the interpreter (default: .venv/bin/python, or else python3).
set -euo pipefail

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
}

dry_run=
if [[ ${1-} == --dry-run ]]; then
    dry_run=1
    shift
fi
[[ ${1-} =~ ^[1-9][0-9]*$ && $# -ge 2 ]] || usage
count=$1
shift

cd "$(dirname "$0")/.."
python=${PYTHON:-}
if [[ -z $python ]]; then
    python=python3
    [[ -x .venv/bin/python ]] && python=.venv/bin/python
fi
# A port that is free now; the coordinator takes it in a moment.
port=${PORT:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

command=("$python" -m jaxseg.main "$@")
pids=()
stop() { kill "$@" "${pids[@]}" 2>/dev/null || true; }
trap 'stop -TERM' TERM INT

for ((i = 0; i < count; i++)); do
    settings=("JAXSEG_COORDINATOR=127.0.0.1:$port" "JAXSEG_PROCESSES=$count" "JAXSEG_PROCESS=$i")
    if [[ $count -gt 1 && -e /dev/nvidia0 ]]; then
        settings+=("CUDA_VISIBLE_DEVICES=$i")
    fi
    if [[ -n $dry_run ]]; then
        printf '%q ' env "${settings[@]}" "${command[@]}"
        echo
        continue
    fi
    env "${settings[@]}" "${command[@]}" &
    pids+=($!)
    echo "process $i has PID $!" >&2
done

# What the first process that failed ended with; else what one did that saved after a signal (143,
# 130); else 0. One that ends because it lost another (75) tells less than the other does.
status=0 deadline=
while [[ ${#pids[@]} -gt 0 ]]; do
    sleep 0.5
    running=()
    for pid in "${pids[@]}"; do
        if kill -0 "$pid" 2>/dev/null; then
            running+=("$pid")
            continue
        fi
        code=0
        wait "$pid" || code=$?
        case $code in
        0) ;;
        130 | 143) [[ $status -ne 0 ]] || status=$code ;;
        *)
            # The others wait for the one that is gone, and would for minutes.
            [[ -n $deadline ]] || deadline=$((SECONDS + ${GRACE:-5}))
            case $status in 0 | 75 | 130 | 143) status=$code ;; esac
            ;;
        esac
    done
    pids=("${running[@]}")
    if [[ -n $deadline && $SECONDS -ge $deadline ]]; then
        stop -KILL
        wait || true
        break
    fi
done
exit "$status"
