"""What tests of several rooms share: real repositories, servers, edited models."""
