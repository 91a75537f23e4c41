"""Every picture: `rendering` decides what to show, `latent_plane` what to decode; `drawing` draws it, in one `style`.

Works without DVC and MLflow: import nothing from `pipeline`, `tracking` or `commands`, nor from `training`. Pictures
must not depend on pyplot or on a user's matplotlibrc.
"""

from cvae.figures import style  # noqa: F401  before anything here imports matplotlib
