"""Where and how the arithmetic runs: devices, threads, processes and seeds.

Works without DVC and MLflow, and knows nothing of images or models: import only `support` here.
"""
