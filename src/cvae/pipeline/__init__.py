"""DVC's side: params.yaml, dvc.yaml, dvc.lock, the repository and checkpoints.

Import only `support` here, and `data` to know which files are images, never `tracking`. The model's half must not
import this room.
"""
