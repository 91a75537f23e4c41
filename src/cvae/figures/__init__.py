"""Every picture: `rendering` decides what to show, `latent_plane` what to decode, and `figures` draws it.

Works without DVC and MLflow: import nothing from `pipeline`, `tracking` or `commands`, nor from `training`. Pictures
must not depend on pyplot or on a user's matplotlibrc.
"""
