"""The command line: `program` finds the sub-commands of `cvae`, and `runner` runs them and the stages.

Import any room here; only the stages import this one. Import torch, MLflow and DVC inside functions, because they are
slow and a mistyped option must be reported at once.
"""
