"""The names of data sets, their labels and their kinds of pixels, for pictures and tables."""

TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "kmnist": "Kuzushiji-MNIST", "digits": "UCI digits"}

_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

LABEL_NAMES = {
    "mnist": tuple("0123456789"),
    "digits": tuple("0123456789"),
    "fashion-mnist": tuple(f"{label} {name}" for label, name in enumerate(_FASHION)),
    "kmnist": tuple(f"{label} {name}" for label, name in enumerate(_KUZUSHIJI)),
}


def kind_of_pixels(binarize: str, channels: int = 1) -> str:
    """Return "grey", "colour" or "binary". Compare nats only between models of the same kind of pixels."""
    return "binary" if binarize != "none" else "colour" if channels == 3 else "grey"
