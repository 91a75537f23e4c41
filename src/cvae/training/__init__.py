"""Training: read `loop`, which defines it. `snapshots` keeps images on the way; `fast` makes it faster.

Works without DVC and MLflow: import nothing from `pipeline`, `tracking` or `commands`, nor from `evaluation` or
`figures`. The caller logs, saves and keeps checkpoints of what `loop` yields.
"""
