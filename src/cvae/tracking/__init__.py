"""MLflow's side of the project: one run per result, whether its stages ran or DVC took them from its cache.

- Store: `location` (where), `checks` and `store_errors` (what is wrong with it), `store` (open and lock it).
- Runs: `live` (written by train), `record` and `results` (completed by track), `runs`, `writers`, `run_keys`.
- Models: `served_model` and `mlflow_server` (predict over HTTP), `labels` (which class a label means), `registry` (the
  alias `best`), `tasks` (which results are comparable), `fetch` (download).
- Pages: `charts` and `description` (what MLflow's UI shows), `current_run` (the run of the workspace's result).
"""
