#!/bin/bash
# A grid, each run a job of SLURM's own, started from the login node by Hydra's submitit launcher:
#   PARTITION=gpu bash docs/cluster/sweep.sh +sweep=temperature +experiment=paper/erf
# It waits until all have ended; run it in tmux. It needs the extra "slurm": pip install '.[vllm,deepspeed,slurm]'.
#
#   PARTITION  of SLURM               GPUS     of each run (8)
#   MINUTES    each may take (720)    SWEEP    the folder (multirun/slurm)
#   LAUNCHER   submitit_slurm; submitit_local tries the same on this machine
#   VENV       the virtual environment (.venv)
set -euo pipefail

LAUNCHER="${LAUNCHER:-submitit_slurm}"
GPUS="${GPUS:-8}"
MINUTES="${MINUTES:-720}"
SWEEP="${SWEEP:-multirun/slurm}"
VENV="${VENV:-.venv}"
# shellcheck disable=SC1091
source "$VENV/bin/activate"
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
export TOKENIZERS_PARALLELISM=false

words=("hydra/launcher=$LAUNCHER" "hydra.launcher.tasks_per_node=$GPUS" "hydra.launcher.timeout_min=$MINUTES")
if [ "$LAUNCHER" = submitit_slurm ]; then
    words+=("hydra.launcher.partition=${PARTITION:?set PARTITION to a partition of SLURM}")
    words+=("hydra.launcher.gpus_per_node=$GPUS" "hydra.launcher.mem_gb=null" "hydra.launcher.max_num_timeout=0")
fi
exec python -m gatepo.train -m checkpoint.every=50 "$@" "hydra.sweep.dir=$SWEEP" "${words[@]}"
