#!/usr/bin/env bash
#SBATCH --job-name=cvae
#SBATCH --cpus-per-task=2
#SBATCH --output=slurm-%A_%a.out
#SBATCH --requeue
#SBATCH --open-mode=append
#
# Run each line of a file as a DVC experiment, in a task of a job array:
#
#   sbatch --array=1-2 docs/slurm/experiments.sh sweep.txt
#
# with a name and parameters in each line:
#
#   dims-2 latent_dims=2
#   wide-4 latent_dims=4 hidden_dims=512
#
# docs/experiments.md says what to prepare. Each task works in a clone of the last commit below .dvc/tmp/slurm, sends its
# result back, and removes the clone. If a task fails, the clone stays; if Slurm stops and requeues it, training goes on
# from its last checkpoint.
set -euo pipefail

: "${MLFLOW_TRACKING_URI:?must name a tracking server, since a clone is removed with its own mlflow.db}"
read -r name settings < <(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1") || :
if [ -z "$settings" ]; then
  echo "$1: line $SLURM_ARRAY_TASK_ID is not a name and parameters" >&2
  exit 1
fi
if git for-each-ref --format='%(refname)' refs/exps | grep -q "/$name\$"; then
  echo "There is an experiment $name already; \`dvc exp remove $name\` removes it" >&2
  exit 1
fi

clone=$PWD/.dvc/tmp/slurm/$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID
[ -d "$clone" ] || git clone --quiet . "$clone"
cd "$clone"
git checkout --quiet --force HEAD  # a stopped experiment leaves its parameters behind

read -ra settings <<< "$settings"
dvc exp run --pull --name "$name" "${settings[@]/#/--set-param=}"
dvc exp push origin "$name"
rm -rf "$clone"
