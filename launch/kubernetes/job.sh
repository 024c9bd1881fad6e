#!/usr/bin/env bash
# Trains on a Kubernetes cluster: an Indexed Job, one pod a machine, and a headless service by which
# the pods find the first one.
#
#   launch/kubernetes/job.sh [--dry-run] NAME PODS IMAGE CLAIM --config=configs/hsg_coco.py \
#       --workdir=/shared/runs/hsg_coco
#   launch/kubernetes/job.sh logs NAME                # follows the first machine
#   kubectl delete job,service NAME
#
# IMAGE holds this repository as its working directory, with jaxseg installed; CLAIM is a persistent
# volume claim that many pods may write, mounted at /shared: data and the work directory lie there.
# With --dry-run the manifest is printed instead of applied. A pod that is evicted saves its state;
# the others then end too, all are started again, and go on from there; so they do after the loss of
# a pod, ten times at least. An error that the user can mend ends the job. GPUS sets how many a pod has
# (default 8), PORT the coordinator's port. Needs Kubernetes 1.28 or newer.
set -euo pipefail

if [[ ${1-} == logs && $# -eq 2 ]]; then
    # Each start has a pod of its own, and those that failed are kept: the newest one.
    pod=$(kubectl get pods -l "job-name=$2,batch.kubernetes.io/job-completion-index=0" \
        --sort-by=.metadata.creationTimestamp -o name | tail -n 1)
    exec kubectl logs -f "$pod"
fi

apply=(kubectl apply -f -)
if [[ ${1-} == --dry-run ]]; then
    apply=(cat)
    shift
fi
if [[ $# -lt 5 || ! ${2-} =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,16s/^# \{0,1\}//p' "$0"
    exit 2
fi
name=$1 pods=$2 image=$3 claim=$4
shift 4
port=${PORT:-12355}
workdir=$(printf '%s\n' "$@" | sed -n 's/^--workdir=//p')
cache=${JAX_COMPILATION_CACHE_DIR-$(dirname "${workdir:-runs/.}")/compiled}

quoted() { # a YAML string in single quotes
    printf "'%s'" "${1//\'/\'\'}"
}

manifest() {
    cat <<EOF
apiVersion: v1
kind: Service
metadata:
  name: $name
spec:
  clusterIP: None # names the pods, NAME-INDEX.NAME, and balances nothing
  publishNotReadyAddresses: true
  selector:
    job-name: $name
---
apiVersion: batch/v1
kind: Job
metadata:
  name: $name
spec:
  completionMode: Indexed
  completions: $pods
  parallelism: $pods
  backoffLimit: $((10 * pods)) # lost pods, perhaps each with all the others
  podFailurePolicy: # the first rule that fits
    rules:
      - action: Ignore # evicted, preempted or drained
        onPodConditions:
          - type: DisruptionTarget
            status: 'True'
      - action: Ignore # 75: lost another pod; 143: saved after a signal, perhaps another's
        onExitCodes:
          containerName: train
          operator: In
          values: [75, 143]
      - action: FailJob # told what is wrong: trying again helps nothing
        onExitCodes:
          containerName: train
          operator: In
          values: [1, 2]
  template:
    spec:
      subdomain: $name
      restartPolicy: Never
      terminationGracePeriodSeconds: 600
      containers:
        - name: train
          image: $(quoted "$image")
          command: [sh, -c, 'JAXSEG_PROCESS=\$JOB_COMPLETION_INDEX exec "\$@"', train]
          args:
            - python
            - -m
            - jaxseg.main
$(for word in "$@"; do echo "            - $(quoted "$word")"; done)
          env:
            - name: JAXSEG_COORDINATOR
              value: '$name-0.$name:$port'
            - name: JAXSEG_PROCESSES
              value: '$pods'
            - name: JAX_COMPILATION_CACHE_DIR
              value: $(quoted "$cache")
          resources:
            limits:
              nvidia.com/gpu: ${GPUS:-8}
          volumeMounts:
            - name: shared
              mountPath: /shared
            - name: memory # worker processes hand batches over through it
              mountPath: /dev/shm
      volumes:
        - name: shared
          persistentVolumeClaim:
            claimName: $(quoted "$claim")
        - name: memory
          emptyDir:
            medium: Memory
EOF
}

manifest "$@" | "${apply[@]}"
