"""Optional speed: the steps of `training.loop`, taken faster. Delete this folder, and training still works.

`steps` is what `loop` calls. It puts all parameters into one vector (`weights`), which is updated in one call. On a GPU
it replays recorded steps (`cuda_graph`). For the network in `cvae.model` it computes the gradient by formulas that were
derived by hand (`gradients`), once `agreement` has found that they are this very model's.
"""
