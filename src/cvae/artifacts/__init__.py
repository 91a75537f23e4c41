"""The files that stages hand to each other: the saved model, the training history and snapshots, formats of numbers.

Works without DVC and MLflow: import only the model and `support` here. Anything that decides the bytes of a result
belongs here, because stages depend on this folder and not on `support`.
"""
