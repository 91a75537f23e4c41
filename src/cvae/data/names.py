"""The names of built-in data sets, their classes and kinds of pixels, and which of many classes pictures show."""

from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np

PANELS = 30  # classes at most in a picture of all

TITLES = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "Kuzushiji-MNIST",
    "emnist-letters": "EMNIST Letters",
    "emnist-balanced": "EMNIST Balanced",
    "digits": "UCI digits",
}

_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

LABEL_NAMES = {
    "mnist": tuple(digits),
    "digits": tuple(digits),
    "fashion-mnist": tuple(f"{label} {name}" for label, name in enumerate(_FASHION)),
    "kmnist": tuple(f"{label} {name}" for label, name in enumerate(_KUZUSHIJI)),
    "emnist-letters": tuple(ascii_lowercase),  # each class holds both cases
    "emnist-balanced": tuple(digits + ascii_uppercase + "abdefghnqrt"),  # the other letters look alike in both cases
}


def kind_of_pixels(binarize: str, channels: int = 1) -> str:
    """Return "grey", "colour" or "binary". Compare nats only between models of the same kind of pixels."""
    return "binary" if binarize != "none" else "colour" if channels == 3 else "grey"


def spread(count: int, limit: int) -> list[int]:
    """Return the numbers below `count`, or `limit` of them spread evenly over all if there are more."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()
