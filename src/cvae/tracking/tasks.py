"""Name the data of a result: figures are comparable only between results of the same data."""

from collections.abc import Mapping

OWN_IMAGES = ("images", "image_size", "channels", "test_share")  # parameters that matter only with `dataset: images`


def applicable(params: Mapping) -> dict:
    """Return `params` without those that do not matter for their data set."""
    return {key: value for key, value in params.items() if key not in OWN_IMAGES or params["dataset"] == "images"}


def data_name(params: Mapping) -> str:
    """Return the data set's name, or for images of your own their folder and what decides what becomes of them.

    `params`: as in params.yaml, or as text, as MLflow stores them.
    """
    if params["dataset"] != "images":
        return params["dataset"]
    folder, size, channels, share = (params.get(key) for key in OWN_IMAGES)
    return f"{folder} ({size} × {size} pixels, {'colour' if str(channels) == '3' else 'grey'}, test share {share})"
