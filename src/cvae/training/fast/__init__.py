"""Optional speed: the steps of `training.loop`, taken faster. Delete it and tests/training/fast: training still works.

`loop` calls `steps`. It puts all parameters into one vector (`weights`), which is updated in one call. On a GPU it
replays recorded steps (`cuda_graph`). For the network in `cvae.model` it computes the gradient by formulas that were
derived by hand (`gradients`), after `agreement` has checked that they belong to exactly this model.
"""
