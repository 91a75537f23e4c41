"""A conditional variational autoencoder on MNIST-like images.

Read `model`, then `objective`, then `training.loop`: that is all of the CVAE. Around it:

- `data`: data sets, their download, and binarised pixels
- `compute`: devices, threads, processes and seeds
- `training`: the loop, and modules beside it that only make it faster
- `evaluation`: likelihood, label accuracy, sample quality, use of the latents
- `embedding`: the latents of every image
- `figures`: every picture
- `artifacts`: the files that stages hand to each other, and how they are written

All of these work without DVC and without MLflow. The other half is the pipeline:

- `pipeline`: DVC's side: params.yaml, dvc.yaml, dvc.lock and checkpoints
- `tracking`: MLflow's side: the store, the runs and the served model
- `commands`: the commands that a person types
- `support`: errors, atomic file writes, output streams, progress bars
"""
