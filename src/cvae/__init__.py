"""A conditional variational autoencoder on MNIST-like images.

Read `model`, then `objective`, then `training.loop`: that is all of the CVAE. Around it:

- `data`: data sets, their download, and binarised pixels
- `compute`: devices, threads, processes and seeds
- `training`: the loop, and beside it what only makes it faster
- `evaluation`: likelihood, label accuracy, sample quality, use of the latents
- `embedding`: the latents of every image
- `figures`: every picture
- `artifacts`: what stages hand to each other, and how it is written

All of these work without DVC and without MLflow. The other half is the pipeline:

- `pipeline`: DVC's side, with params.yaml, dvc.yaml, dvc.lock and checkpoints
- `tracking`: MLflow's side, with the store, the runs and the served model
- `commands`: what a person types
- `support`: errors, atomic file writes, output streams, progress bars
"""
