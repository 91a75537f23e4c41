"""Name the data, the pixels and the images that a result was measured on: only results that share all are comparable.

A result with validation images is chosen by its validation figures, and its test figures choose nothing.
"""

from collections.abc import Mapping

from cvae.data.names import kind_of_pixels

OWN_IMAGES = ("images", "image_size", "channels", "test_share")  # parameters that matter only with `dataset: images`


def applicable(params: Mapping) -> dict:
    """Return `params` without those that do not matter for their data set."""
    return {key: value for key, value in params.items() if key not in OWN_IMAGES or params["dataset"] == "images"}


def data_name(params: Mapping) -> str:
    """Return the data set's name, or for images of your own their folder and the parameters that shape them.

    MLflow stores the values of `params` as text; the name is the same.
    """
    if params["dataset"] != "images":
        return params["dataset"]
    folder, size, channels, share = (params.get(key) for key in OWN_IMAGES)
    return f"{folder} (image_size {size}, channels {channels}, test_share {share})"


def pixels_of(params: Mapping) -> str:
    """Return "grey", "colour" or "binary"; static and dynamic binary pixels have the same test images."""
    is_colour = params["dataset"] == "images" and str(params.get("channels")) == "3"
    return "colour" if is_colour and params["binarize"] == "none" else kind_of_pixels(params["binarize"])


def split_of(params: Mapping) -> str:
    """Return the split by whose figures a result is chosen: "validation" if it has one, else "test"."""
    return "validation" if _validation_images(params) else "test"


def measured_on(params: Mapping) -> str:
    """Return the images that these figures are of, as "test images" or "5000 validation images"."""
    count = _validation_images(params)
    return f"{count} validation images" if count else "test images"


def _validation_images(params: Mapping) -> int:
    """Return `validation_images`, which older results lack. MLflow stores it as text, pandas as a number or NaN."""
    count = params.get("validation_images")
    return int(count) if count and count == count else 0
