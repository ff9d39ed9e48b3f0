"""Parameters know their kind: names may be what they like."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import refine
from nbtorch.config import MosaicConfig
from refine.fit.stages import Rules
from refine.fit.state import Stage
from refine.least_squares.uncertainty import describe
from refine.parameters import kinds
from refine.parameters.amplitudes import with_scale_held
from refine.parameters.parameter_set import Parameter, ParameterSet
from refine.parameters.physical import mosaic_parameters
from refine.parameters.restraints import told_by_positions
from refine.settings.fit_settings import ParameterSettings
from tests.refine import tiny

ALL = ParameterSettings(
    mosaic_spread=True, detector_shift=True, detector_rotation=True, wavelength=True, polarization=True
)


def rows_of(count: int = 1, *, renamed: bool = False) -> list[Parameter]:
    """Every parameter of ``count`` crystals, free; ``renamed``: with names that say nothing."""
    expts = tiny.experiments(count, mosaic=MosaicConfig(0.2, 6))
    rows = [replace(row, free=True) for row in tiny.parameter_rows(expts, ALL)]
    for index, expt in enumerate(expts):
        rows += mosaic_parameters(index, expt.crystal, free=True)
    return [replace(row, name=f"x{i}", follows=()) for i, row in enumerate(rows)] if renamed else rows


def set_of(rows: list[Parameter], count: int = 1) -> ParameterSet:
    return ParameterSet(rows, tiny.start_tensors(tiny.experiments(count, mosaic=MosaicConfig(0.2, 6))))


def test_every_kind_is_told_by_something_and_has_a_word_of_its_own() -> None:
    assert all(kind.determined_by for kind in kinds.KINDS)
    assert len({kind.name for kind in kinds.KINDS}) == len(kinds.KINDS)
    assert {row.kind for row in rows_of()} <= set(kinds.KINDS)


@pytest.mark.parametrize("renamed", [False, True])
def test_positions_hold_what_they_do_not_tell(renamed: bool) -> None:
    held = {row.kind for row in told_by_positions(rows_of(renamed=renamed)) if not row.free}
    assert held == {kinds.N_CELLS, kinds.MOSAIC_SPREAD, kinds.SCALE, kinds.POLARIZATION}


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize(
    ("stage", "held"),
    [
        (Stage("spots"), {kinds.SCALE}),
        (Stage("frame", free_scales=False), set()),
        (Stage("robust", errors=(0.1, 0.1, 0.3)), {kinds.SCALE, kinds.N_CELLS, kinds.MOSAIC_SPREAD}),
    ],
)
def test_a_stage_holds_what_its_spots_do_not_tell(stage: Stage, held: set[kinds.Kind], renamed: bool) -> None:
    parameters = set_of(rows_of(renamed=renamed))
    free = Rules(SimpleNamespace(parameters=parameters)).free(stage)  # type: ignore[arg-type]
    assert {row.kind for i, row in enumerate(parameters.parameters_) if i not in free} == held


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (kinds.DETECTOR_DISTANCE, kinds.CELL_LENGTH, "smaller cell"),
        (kinds.DETECTOR_DISTANCE, kinds.WAVELENGTH, "longer wavelength"),
        (kinds.DETECTOR_TURN, kinds.ORIENTATION, "rotation of all crystals"),
        (kinds.SCALE, kinds.N_CELLS, "larger crystal is brighter"),
        (kinds.CELL_ANGLE, kinds.DETECTOR_TILT, "moved together"),
    ],
)
def test_a_direction_that_nothing_tells_is_explained_by_its_kinds(
    first: kinds.Kind, second: kinds.Kind, reason: str
) -> None:
    chosen = [
        Parameter("x", first, "mm", 0.0, 1.0, ()),
        Parameter("y", second, "Å", 0.0, 1.0, ()),
    ]
    both = ParameterSet(chosen, [{}])
    direction, span = torch.tensor([0.8, 0.6]).double(), torch.ones(2).double()
    assert reason in describe(direction, 1e-3, ["x", "y"], span, both).reason


def test_the_scale_of_a_crystal_is_found_without_its_name() -> None:
    parameters = set_of(rows_of(2, renamed=True), 2)
    for block in (0, 1):
        row = parameters.parameters_[parameters.index_of(kinds.SCALE, block)]
        assert (row.kind, row.block) == (kinds.SCALE, block)
    with pytest.raises(KeyError):
        parameters.index_of(kinds.SCALE, 2)


def test_the_first_scale_is_held_whatever_it_is_called() -> None:
    rows = [row for row in rows_of(2, renamed=True) if row.kind == kinds.SCALE]
    assert [row.free for row in with_scale_held(rows)] == [False, True]


ROOMS = ("fit", "least_squares", "pixels", "positions", "report", "scene")
READ = re.compile(r"""(?:name|stem|kind)\.(?:startswith|endswith|r?partition)\(|"F\[|"n_[abc]""" + '"')


def test_no_code_of_the_fit_reads_a_kind_out_of_a_name() -> None:
    lines = [
        line
        for room in ROOMS
        for path in sorted((Path(refine.__file__).parent / room).rglob("*.py"))
        for line in path.read_text().splitlines()
    ]
    assert len(lines) > 2000
    assert READ.search('parameter.name.endswith(".scale")')
    assert [line for line in lines if READ.search(line)] == []
