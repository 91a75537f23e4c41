"""A conditional variational autoencoder on MNIST-like images.

To understand the CVAE, read `model`, then `objective`, then `training.loop`. The rooms around them:

- `models`: other models than the article's, and `build`, which makes the one that params.yaml names
- `data`: data sets and their schemas, your own images, downloads, binary pixels
- `compute`: devices, threads, processes and seeds
- `training`: the training loop, and modules that only make it faster
- `evaluation`: likelihood, label accuracy, sample quality, use of the latents
- `embedding`: the latents of every image
- `figures`: every picture
- `explorer`: a page that runs the model in the browser
- `artifacts`: the files that stages hand to each other

All of these work without DVC and MLflow. The pipeline around them:

- `pipeline`: DVC's side: params.yaml, dvc.yaml, dvc.lock and checkpoints
- `tracking`: MLflow's side: the store, its runs and the served model
- `commands`: the program `cvae`, and what runs a stage
- `support`: errors, atomic file writes, output streams and progress bars, for all rooms

README.md, beside this file, says what may import what.
"""
