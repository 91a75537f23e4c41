from typing import get_args

import pytest

from cvae.data.idx import LABELS
from cvae.data.names import LABEL_NAMES, TITLES, kind_of_pixels


def test_every_data_set_has_a_title_and_a_name_for_each_label():
    from cvae.pipeline.parameters import Parameters

    data_sets = get_args(Parameters.model_fields["dataset"].annotation)
    assert set(data_sets) == set(TITLES) == set(LABEL_NAMES)
    assert {len(set(names)) for names in LABEL_NAMES.values()} == {LABELS}


@pytest.mark.parametrize(("binarize", "kind"), [("none", "grey"), ("static", "binary"), ("dynamic", "binary")])
def test_both_ways_to_binarise_give_the_same_kind_of_pixels(binarize, kind):
    assert kind_of_pixels(binarize) == kind
