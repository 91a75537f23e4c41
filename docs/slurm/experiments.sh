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
# with a name and parameters in each line; values have no spaces:
#
#   dims-2 latent_dims=2
#   deep-4 latent_dims=4 hidden_dims=[400,200]
#
# docs/experiments.md says what to prepare. Each task works in a clone of the last commit, .dvc/tmp/slurm/NAME/clone.
# Once its result is here and in the DVC remote, it removes the clone. A task that was stopped or failed keeps it, and
# resumes when Slurm requeues it or when you submit it again.
set -euo pipefail

fail() {
  echo "$1" >&2
  exit 1
}
# Print the commit of the experiment $name in a repository, or nothing.
experiment_in() { git -C "$1" for-each-ref --format='%(objectname)' "refs/exps/*/*/$name"; }

sweep=${1:?name the file that lists the experiments}
line=${SLURM_ARRAY_TASK_ID:?submit this with sbatch --array}
task=${SLURM_ARRAY_JOB_ID}_$line
[ -f dvc.yaml ] || fail "There is no dvc.yaml here; submit this from the root of the repository"
[[ ${MLFLOW_TRACKING_URI:-} == http* ]] || fail "MLFLOW_TRACKING_URI names no tracking server (http://...)"
[ -z "$(git status --porcelain data/own)" ] || fail "data/own has changes; commit your images first"
read -r name settings < <(sed -n "${line}p" "$sweep" | tr -d '\r') || :
[[ $name =~ ^[A-Za-z0-9._-]+$ && $settings == *=* ]] || fail "$sweep: line $line is not a name and parameters"

# The folder belongs to the task that first moves its own there. Another may take it over once that one has left the
# queue.
repository=$PWD
work=$repository/.dvc/tmp/slurm/$name
mkdir -p "$work.$task"
echo "$task" > "$work.$task/task"
mv -T "$work.$task" "$work" 2>/dev/null || rm -r "$work.$task"
owner=$(cat "$work/task")
if [ "$owner" != "$task" ]; then
  [ -z "$(squeue --noheader --jobs "$owner" 2>/dev/null)" ] || fail "Task $owner makes $name already"
  echo "$task" > "$work/task"
fi

export GIT_CEILING_DIRECTORIES=$work  # should the clone be damaged, git must not take the repository around it
if [ ! -d "$work/clone" ]; then
  if [ -n "$(experiment_in "$repository")" ]; then
    rm -rf "$work"
    fail "There is an experiment $name already; \`dvc exp remove $name\` removes it"
  fi
  rm -rf "$work/new"
  git clone --quiet "$repository" "$work/new"
  mv "$work/new" "$work/clone"
elif [ "$owner" != "$task" ]; then  # submitted again: take what has been committed since
  git -C "$work/clone" fetch --quiet origin HEAD
  git -C "$work/clone" reset --quiet --hard FETCH_HEAD
fi
cd "$work/clone"
[ -n "$(dvc config core.remote 2>/dev/null)" ] || fail "The last commit has no default DVC remote to keep the results"

if [ -z "$(experiment_in .)" ]; then
  git checkout --quiet --force HEAD  # a stopped experiment leaves its parameters behind
  read -ra settings <<< "$settings"
  dvc exp run --pull --name "$name" "${settings[@]/#/--set-param=}"
fi
dvc exp push origin "$name"
[ "$(experiment_in .)" = "$(experiment_in "$repository")" ] || fail "$repository has another experiment $name"
cd "$repository"
rm -rf "$work"
