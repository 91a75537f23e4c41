"""Word the titles of pictures."""

from cvae.data.dataset import Schema

LATENTS, MANIFOLD = "latents of the training images", "what the decoder draws across its latents"


def chosen(shown: int, count: int, rest: str = "") -> str:
    """Return a title's second line if a picture shows not all classes, otherwise an empty string."""
    return f"\n{shown} of {count} classes{rest}" if shown < count else ""


def headline(schema: Schema, caption: str, label: int | None = None) -> str:
    """Return a picture's title, for one class or for all. A data set need not have a title."""
    subject = [schema.title] if schema.title else []
    if label is not None:
        subject = [*(subject or ["Class"]), schema.classes[label]]
    return f"{' '.join(subject)}: {caption}" if subject else caption[0].upper() + caption[1:]
