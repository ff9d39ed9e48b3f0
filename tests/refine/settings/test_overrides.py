"""The command line before Hydra sees it."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from refine.settings.overrides import TEXT_KEYS, key_of, options_first, prepare, quote, quote_paths

PARSER = OverridesParser.create()
# Everything that Hydra's grammar gives a meaning to, and some that it does not.
CHARACTERS = st.sampled_from("ab0/._-# []()=,~{}'\"\\:?*!&|;<>@%^+\n\tµÅ")
NAMES = st.text(CHARACTERS, max_size=16)


@given(NAMES)
def test_a_quoted_value_reads_back_as_it_was(name: str) -> None:
    assert PARSER.parse_override(f"key={quote(name)}").value() == name


@given(NAMES, st.sampled_from(sorted(TEXT_KEYS)))
def test_a_path_reaches_the_configuration_as_it_was_typed(name: str, key: str) -> None:
    (argument,) = quote_paths([f"{key}={name}"])
    already_quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "'\""
    if not (already_quoted or name == "null" or name.startswith("~/")):
        override = PARSER.parse_override(argument)
        assert override.key_or_group == key
        assert override.value() == name
        assert not override.is_sweep_override()


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("[crystal[0].gamma]", ["crystal[0].gamma"]),
        ("crystal[0].gamma", ["crystal[0].gamma"]),
        ("[crystal[0].gamma, *.rot_normal]", ["crystal[0].gamma", "*.rot_normal"]),
        ("['crystal[0].a','b']", ["crystal[0].a", "b"]),
        ("[]", []),
    ],
)
def test_names_of_parameters_need_no_quotes(typed: str, names: list[str]) -> None:
    (argument,) = quote_paths([f"parameters.fix={typed}"])
    assert PARSER.parse_override(argument).value() == names


@pytest.mark.parametrize(
    ("typed", "groups"),
    [
        ("[*.n_a]", ["*.n_a"]),
        ("*.n_a", ["*.n_a"]),
        ("[*.n_a,crystal[0].a]", ["*.n_a", "crystal[0].a"]),
        ("[[*.n_a, *.n_b],crystal[*].a]", [["*.n_a", "*.n_b"], "crystal[*].a"]),
        ("[[crystal[0].a,crystal[1].a]]", [["crystal[0].a", "crystal[1].a"]]),
        ("[['*.n_a','*.n_b']]", [["*.n_a", "*.n_b"]]),
    ],
)
def test_groups_of_names_need_no_quotes(typed: str, groups: list[str | list[str]]) -> None:
    (argument,) = quote_paths([f"parameters.tie={typed}"])
    assert PARSER.parse_override(argument).value() == groups


@pytest.mark.parametrize(
    ("typed", "held"),
    [
        ("{crystal[0].a:0.05}", {"crystal[0].a": 0.05}),
        ("{*.n_?: [20, 2], crystal[*].gamma: 0.1}", {"*.n_?": [20, 2], "crystal[*].gamma": 0.1}),
        ("{crystal[0].rot_x@20: [null, 1e-3]}", {"crystal[0].rot_x@20": [None, 1e-3]}),
        (r"{crystal\[0\].a:0.05}", {"crystal[0].a": 0.05}),
        ("{}", {}),
    ],
)
@pytest.mark.parametrize("key", ["restrain", "bounds"])
def test_names_with_values_need_no_quotes_and_are_added_to_those_there_are(
    key: str, typed: str, held: dict[str, object]
) -> None:
    (argument,) = quote_paths([f"parameters.{key}={typed}"])
    override = PARSER.parse_override(argument)
    assert override.value() == held
    assert override.is_force_add()
    assert override.key_or_group == f"parameters.{key}"


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_path_with_every_special_character_passes_in_any_kind_of_override(plus: str) -> None:
    name = "a#b [c](d)=e,f~g{h} i/frame_####.cbf"
    (argument,) = quote_paths([f"{plus}data.frames={name}"])
    assert PARSER.parse_override(argument).value() == name


@pytest.mark.parametrize(
    "argument",
    [
        "data.frame_range=[0,5]",
        "data.mask=null",
        "data.holdout=frame",
        "parameters=crystal",
        "crystal.n_cells=[20,20,30]",
        "data.frames='a, b.cbf'",
        'data.frames="a, b.cbf"',
        "--multirun",
        "~data.mask",
    ],
)
def test_what_is_not_a_bare_path_stays_as_it_is(argument: str) -> None:
    assert quote_paths([argument]) == [argument]


def test_an_interpolation_in_a_run_folder_stays_one() -> None:
    from omegaconf import OmegaConf

    (argument,) = quote_paths(["hydra.run.dir=out/${name}, again"])
    value = PARSER.parse_override(argument).value()
    assert OmegaConf.create({"name": "x", "dir": value}).dir == "out/x, again"


def test_a_choice_sweeps_in_a_multirun_and_is_a_name_elsewhere() -> None:
    argument = "data.frames=choice(a.cbf,b.cbf)"
    assert PARSER.parse_override(quote_paths([argument], multirun=True)[0]).is_sweep_override()
    assert PARSER.parse_override(quote_paths([argument])[0]).value() == "choice(a.cbf,b.cbf)"
    comma = quote_paths(["data.frames=a.cbf,b.cbf"], multirun=True)[0]
    assert PARSER.parse_override(comma).value() == "a.cbf,b.cbf"


def test_options_come_before_overrides_with_their_values() -> None:
    given = ["seed=1,2", "--multirun", "data.root=x", "--cfg", "job", "--config-dir", "mine"]
    assert options_first(given) == ["--multirun", "--cfg", "job", "--config-dir", "mine", "seed=1,2", "data.root=x"]


@pytest.mark.parametrize(
    ("arguments", "embedded"),
    [
        ([], True),
        (["debug=fast"], True),
        (["data.experiment=a.expt"], False),
        (["experiment=in16c"], False),
        (["--help"], False),
        (["data.root=x"], True),
        (["data.frames=mine*.cbf"], False),
        (["data.amplitudes=mine.mtz"], False),
    ],
)
def test_the_embedded_experiment_is_fitted_when_none_is_named(arguments: list[str], *, embedded: bool) -> None:
    assert ("experiment=default" in prepare(arguments)) is embedded


def test_a_multirun_puts_its_runs_where_hydra_run_dir_says() -> None:
    ready = prepare(["--multirun", "seed=1,2", "hydra.run.dir=my, out"])
    assert "hydra.sweep.dir='my, out'" in ready
    assert not any(key_of(argument) == "hydra.run.dir" for argument in ready)
