"""A conditional variational autoencoder on MNIST-like images: what the pipeline's stages do."""
