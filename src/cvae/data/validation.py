"""Hold out training images for validation: to choose between models, so that the test images choose nothing."""

from dataclasses import replace

import numpy as np

from cvae.compute.seeding import numpy_generator
from cvae.data.dataset import Dataset, Split
from cvae.support.errors import UserError


def hold_out(data: Dataset, count: int, seed: int) -> Dataset:
    """Return `data` with `count` of its training images as the validation split; unchanged if `count` is 0.

    The images are chosen at random by `seed`. Each class gives its share of them, rounded up or down.

    Raises:
        UserError: a class would have no training image left.
    """
    if count == 0:
        return data
    labels = data.train.labels
    if count >= len(labels):
        raise UserError(f"validation_images is {count}, but there are only {len(labels):,} training images; lower it")
    # Sorted by class, in random order within each: every n-th image then samples all classes evenly.
    order = np.lexsort((numpy_generator(seed, "validation").permutation(len(labels)), labels))
    chosen = np.zeros(len(labels), bool)
    chosen[order[((np.arange(count) + 0.5) * len(labels) / count).astype(int)]] = True
    if lost := set(labels.tolist()) - set(labels[~chosen].tolist()):
        name = data.schema.classes[min(lost)]
        raise UserError(f"validation_images is {count}, which leaves no training image of class {name}; lower it")
    kept, held_out = (
        Split(data.train.images[picked], labels[picked], picked.nonzero()[0]) for picked in (~chosen, chosen)
    )
    return replace(data, train=kept, validation=held_out)
