"""The space of `cvae tune`: what can be written, and what is refused in one line."""

import optuna
import pytest

from cvae.commands.compare.results import IMMATERIAL
from cvae.commands.tune.space import UNSEARCHABLE, parse_space, spell
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError

BASE = Parameters().model_dump()


def sampled(setting: str, count: int = 300) -> set:
    """Return the distinct values that a sampler finds in the space of `setting`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, study = parse_space([setting], BASE), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [space.suggest(study.ask()) for _ in range(count)]
    return {str(value) if isinstance(value, list) else value for (value,) in map(dict.values, values)}


def refusal(*settings: str) -> str:
    with pytest.raises(UserError) as raised:
        parse_space(settings, BASE)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("latent_dims=2..5", {2, 3, 4, 5}),
        ("latent_dims=2,4,8", {2, 4, 8}),
        ("latent_dims=range(2,5)", {2, 3, 4}),  # as in DVC, without the end
        ("latent_dims=range(2,9,3)", {2, 5, 8}),
        ("latent_dims=choice(3, 5)", {3, 5}),
        ("beta=range(0,1,0.25)", {0.0, 0.25, 0.5, 0.75}),
        ("hidden_dims=[128],[256],[256, 256]", {"[128]", "[256]", "[256, 256]"}),
        ("hidden_dims=64,[400,200]", {64, "[400, 200]"}),
        ("activation=relu,tanh", {"relu", "tanh"}),
        (
            "model=cvae.model:CVAE,cvae.models.convolutional:ConvolutionalCVAE",
            {"cvae.model:CVAE", "cvae.models.convolutional:ConvolutionalCVAE"},
        ),
        (" latent_dims = 2 .. 4 ", {2, 3, 4}),
    ],
)
def test_all_values_of_a_space_are_found_and_no_others(setting, values):
    assert sampled(setting) == values


def test_a_log_range_covers_each_decade_alike():
    values = sampled("learning_rate=1e-4..1e-2 log", 2000)
    assert all(1e-4 <= value <= 1e-2 for value in values)
    assert 0.45 < sum(value < 1e-3 for value in values) / len(values) < 0.55


def test_sampled_numbers_have_three_digits_and_stay_in_the_range():
    values = sampled("learning_rate=0.0012345..0.0012351")
    assert values == {0.0012345, 0.0012351}  # 0.00123 and 0.00124 are outside
    assert all(float(f"{value:.3g}") == value for value in sampled("beta=0..4"))


def test_a_range_of_a_parameter_that_is_no_whole_number_has_fractions():
    assert len(sampled("beta=0..4")) > 100


def test_one_value_is_fixed_for_all_trials():
    space = parse_space(["epochs=10", "dataset=digits", "hidden_dims=[256,256]", "latent_dims=2..4"], BASE)
    assert space.fixed == {"epochs": 10, "dataset": "digits", "hidden_dims": [256, 256]}
    assert [dimension.key for dimension in space.dimensions] == ["latent_dims"]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("latent_dim=2..8", "latent_dim is not a parameter; did you mean latent_dims?"),
        ("+colour=red,blue", "+colour is not a parameter"),
        ("latent_dims", "not a setting"),
        ("latent_dims=", "not a setting"),
        ("latent_dims=0..8", "latent_dims is 0; allowed: a whole number from 1 to 1024"),
        ("latent_dims=2..2000", "latent_dims is 2000; allowed"),
        ("latent_dims=1.5..4", "latent_dims is 1.5; allowed"),
        ("latent_dims=8..2", "the low end of a range comes first"),
        ("latent_dims=2..2", "the low end of a range comes first"),
        ("latent_dims=2,four", "latent_dims is 'four'; allowed"),
        ("latent_dims=2..8,16", "latent_dims is '2..8'; allowed"),
        ("latent_dims=2,,4", "a value is missing"),
        ("latent_dims=2,", "a value is missing"),
        ("hidden_dims=[128,[256]", "brackets or quotes do not match"),
        ("latent_dims=range(2)", "latent_dims is 0; allowed"),
        ("latent_dims=range(5,2)", "the range has less than two values"),
        ("latent_dims=range(a,b)", "range() takes one to three numbers"),
        ("beta=0..4 log", "a log range starts above 0"),
        ("learning_rate=.nan..1", "learning_rate is '.nan..1'; allowed"),
        ("labels=given,maybe", "labels is 'maybe'; allowed: one of given, none"),
        ("labels=given..none", "labels is 'given..none'; allowed"),
        ("dataset=mnist,kmnist", "dataset cannot be searched, since nats cannot be compared"),
        ("likelihood=gaussian,bernoulli", "likelihood cannot be searched, since nats cannot be compared"),
        ("binarize=none,static", "binarize cannot be searched, since nats cannot be compared"),
        ("nll_samples=10..500", "more samples lower the NLL of the same model"),
        ("seed=0..9", "the best seed is luck"),
        ("grid_size=5..10", "it does not change the model"),
        ("epochs=10", "there is nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(setting, reason):
    assert reason in refusal(setting)


def test_a_parameter_that_is_set_twice_is_refused():
    assert "latent_dims is set twice" in refusal("latent_dims=2,4", "latent_dims=8")


@pytest.mark.parametrize("value", [2, 1e-05, 0.00123, 1.0, [256, 256], "given", "cvae.model:CVAE", "", "a'b c", "7"])
def test_dvc_reads_a_spelled_value_as_it_was(value, tmp_path):
    from dvc.utils.hydra import apply_overrides
    from dvc.utils.serialize import load_yaml

    file = tmp_path / "params.yaml"
    file.write_text("key: 0\n")
    apply_overrides(file, [f"key={spell(value)}"])
    read = load_yaml(file)["key"]
    assert (read, type(read)) == (value, type(value))


def test_parameters_that_change_no_figure_cannot_be_searched():
    assert UNSEARCHABLE.keys() <= Parameters.model_fields.keys()
    assert set(IMMATERIAL) <= UNSEARCHABLE.keys()
