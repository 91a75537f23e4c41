"""Data sets and their schemas: your own images, downloads, IDX files, class names, validation and binary
pixels.

Works without DVC and MLflow: import only `compute` and `support` here. The folder, the data set's name and the mirror
come in as arguments.
"""
