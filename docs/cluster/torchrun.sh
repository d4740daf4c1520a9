#!/bin/bash
# One run without SLURM: type the same on each host, with its number in NODE.
#   NODES=2 NODE=0 MASTER=10.0.0.1 bash docs/cluster/torchrun.sh +experiment=paper/erf
#   NODES=2 NODE=1 MASTER=10.0.0.1 bash docs/cluster/torchrun.sh +experiment=paper/erf
# On one host nothing has to be set: bash docs/cluster/torchrun.sh gate=erf
#
#   NODES   hosts (1)                 NODE    the number of this one, from 0 (0)
#   MASTER  the address of host 0     PORT    where they meet on it (29500)
#   GPUS    processes here (its GPUs) RUN     the folder of the run, which all hosts see (outputs/torchrun)
#   VENV    the virtual environment (.venv)
set -euo pipefail

NODES="${NODES:-1}"
NODE="${NODE:-0}"
MASTER="${MASTER:-127.0.0.1}"
PORT="${PORT:-29500}"
RUN="${RUN:-outputs/torchrun}"
VENV="${VENV:-.venv}"
# shellcheck disable=SC1091
source "$VENV/bin/activate"
GPUS="${GPUS:-$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')}"
export TOKENIZERS_PARALLELISM=false
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(($(nproc) / GPUS > 0 ? $(nproc) / GPUS : 1))}"

# Ranks have 120 s to leave a checkpoint when torchrun is asked to stop.
exec python -m torch.distributed.run --nnodes "$NODES" --node-rank "$NODE" --nproc-per-node "$GPUS" \
    --master-addr "$MASTER" --master-port "$PORT" --shutdown-timeout 120 \
    -m gatepo.train checkpoint.every=50 "$@" hydra.run.dir="$RUN" resume=auto
