#!/usr/bin/env bash
# Start a training on all machines of a Slurm job, as the parameter `launcher`:
#
#   sbatch --nodes=2 --ntasks-per-node=1 --gpus-per-node=4 --cpus-per-task=8 --wrap \
#     "dvc exp run -n large -S hidden_dims=4096 -S launcher='srun --cpus-per-task=8 docs/slurm/torchrun.sh'"
#
# srun runs this once on each machine. The processes on a machine are as many as its GPUs in this job, or else its CPUs.
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-$SLURM_CPUS_ON_NODE}" \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$((20000 + SLURM_JOB_ID % 10000))" "$@"
