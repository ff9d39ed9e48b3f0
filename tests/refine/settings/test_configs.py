"""Every config composes, and says what the settings know: no key more, none less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from refine.commands.app import plain
from refine.commands.launch import register_resolvers
from refine.settings.fit_settings import FitSettings, ParameterSettings, SolverSettings
from refine.settings.paths import config_dir
from refine.settings.request import DebugSettings, PathSettings, Places, TrainerSettings, request_from
from refine.settings.typed import build

CONFIGS = config_dir()
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in CONFIGS.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "hydra")
)


@pytest.fixture(autouse=True)
def _composing() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    return plain(compose("fit", ["data.experiment=a.expt", *overrides]))


def test_the_groups_are_the_settings_groups_and_their_surroundings() -> None:
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    settings = {field.name for field in fields(FitSettings) if is_dataclass(get_type_hints(FitSettings)[field.name])}
    assert groups == settings | {"trainer", "experiment", "debug", "paths", "hydra"}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_makes_valid_settings(group: str, option: str) -> None:
    values = composed(f"{group}={option}")
    known = {**get_type_hints(FitSettings), "trainer": TrainerSettings, "debug": DebugSettings, "paths": PathSettings}
    own = {name: value for name, value in values[group].items() if name not in {f.name for f in fields(Places)}}
    build(known[group], own if group == "data" else values[group], group)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_names_its_command_first(experiment: str) -> None:
    values = composed(f"experiment={experiment}")
    assert {"data", "parameters", "solver"} <= set(values)
    first, second = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert first == "# @package _global_"  # Hydra reads it on the first line alone
    assert second.startswith(f"# nb-refine experiment={experiment}")


def test_the_configs_write_out_every_setting_and_its_default() -> None:
    """What --help prints is all there is, and leaving a key out means what the config says."""
    values = composed("parameters=none")
    for name, kind in get_type_hints(FitSettings).items():
        if is_dataclass(kind):
            written = {key: value for key, value in values[name].items() if key not in {f.name for f in fields(Places)}}
            assert set(written) == {field.name for field in fields(kind)}, name
            if kind is not ParameterSettings:
                default = kind(**({"experiment": "a.expt"} if name == "data" else {}))
                assert build(kind, written, name) == default, name
    assert build(TrainerSettings, values["trainer"]) == TrainerSettings()


def test_the_presets_free_what_they_are_named_after() -> None:
    on = {
        name: {key for key, value in composed(f"parameters={name}")["parameters"].items() if value is True}
        - {"friedel"}
        for name in ("none", "crystal", "detector", "all")
    }  # friedel frees nothing: it says which amplitudes are one
    assert on["none"] == set()
    assert on["crystal"] == {"orientation", "cell", "n_cells"}
    assert on["detector"] == {"detector_shift", "detector_rotation"}
    assert on["all"] == on["crystal"] | on["detector"] | {"mosaic_spread"}


def test_a_parameter_can_be_switched_alone() -> None:
    values = composed("parameters=crystal", "parameters.wavelength=true", "parameters.cell=false")["parameters"]
    assert values["wavelength"] is True
    assert values["cell"] is False
    assert values["orientation"] is True


def test_debug_fast_takes_fewer_steps() -> None:
    fast, usual = (build(SolverSettings, composed(f"debug={name}")["solver"]) for name in ("fast", "none"))
    assert fast.max_iterations < usual.max_iterations
    assert fast.coarse_rounds < usual.coarse_rounds


def test_a_composed_configuration_becomes_a_request_with_absolute_paths(tmp_path: Path) -> None:
    for name in ("a.expt", "f_1.cbf", "F.mtz"):
        (tmp_path / name).touch()
    values = plain(
        compose(
            "fit",
            ["data.experiment=a.expt", "data.frames='f_*.cbf'", "data.amplitudes=F.mtz", f"data.root='{tmp_path}'"],
        )
    )
    request = request_from(values)
    assert request.fit.data.experiment == str(tmp_path / "a.expt")
    assert request.fit.data.frames == str(tmp_path / "f_*.cbf")
    assert request.fit.data.amplitudes == str(tmp_path / "F.mtz")
    assert request.truth is None


def test_configs_name_no_code_to_run() -> None:
    """Settings are data: nothing is instantiated from a config."""
    texts = [path.read_text(encoding="utf-8") for path in CONFIGS.rglob("*.yaml")]
    assert not [text for text in texts if "_target_" in text]
    assert OmegaConf.is_config(compose("fit"))
