"""DVC's side: params.yaml, dvc.yaml, dvc.lock, the repository and checkpoints.

Import only `support` here, never the model's half or `tracking`. The model's half must not import this room.
"""
