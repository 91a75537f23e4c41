from typing import get_args

import pytest

from cvae.data.names import LABEL_NAMES, TITLES, kind_of_pixels

COUNTS = {"mnist": 10, "fashion-mnist": 10, "kmnist": 10, "digits": 10, "emnist-letters": 26, "emnist-balanced": 47}


def test_every_built_in_data_set_has_a_title_and_a_name_for_each_class():
    from cvae.pipeline.parameters import Parameters

    data_sets = set(get_args(Parameters.model_fields["dataset"].annotation)) - {"images"}
    assert data_sets == set(TITLES) == set(LABEL_NAMES)
    assert {name: len(set(names)) for name, names in LABEL_NAMES.items()} == COUNTS


def test_the_classes_of_emnist_are_torchvisions():
    from torchvision.datasets import EMNIST

    assert list(LABEL_NAMES["emnist-balanced"]) == EMNIST.classes_split_dict["balanced"]
    assert ["N/A", *LABEL_NAMES["emnist-letters"]] == EMNIST.classes_split_dict["letters"]


@pytest.mark.parametrize(("binarize", "kind"), [("none", "grey"), ("static", "binary"), ("dynamic", "binary")])
def test_both_ways_to_binarise_give_the_same_kind_of_pixels(binarize, kind):
    assert kind_of_pixels(binarize) == kind
