"""The structure factors of a fit: what symmetry forbids is zero, what nobody listed is not invented."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch

from nbtorch.config import CrystalConfig
from nbtorch.errors import DataError
from nbtorch.functional.absences import Listing
from nbtorch.io import read_expt
from nbtorch.io.expt import ExperimentEntry
from refine.fit.shoebox_choice import listed
from refine.indexing.index_spots import expected_light
from refine.records.journal import Journal
from refine.scene.read_factors import read_factors
from refine.settings.fit_settings import DataSettings, FitSettings
from tests.refine import small, tiny

GROUP = "C 2 2 2"


def write_mtz(path: Path, columns: dict[str, tuple[str, float]], *, dmin: float = 3.0, group: str = GROUP) -> None:
    """The asymmetric unit of ``group`` to ``dmin``, without absences; a column is its factor times h + k + l + 10."""
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(group)
    mtz.set_cell_for_all(gemmi.UnitCell(*small.CELL))
    mtz.add_dataset("one")
    hkl = gemmi.make_miller_array(mtz.cell, mtz.spacegroup, dmin, unique=True)
    for label, (kind, _) in columns.items():
        mtz.add_column(label, kind)
    values = hkl.sum(1) + 10.0
    mtz.set_data(np.column_stack([hkl, *(factor * values for _, factor in columns.values())]).astype(np.float32))
    mtz.write_to_file(str(path))


def entry(folder: Path, group: str = GROUP) -> ExperimentEntry:
    path = folder / "start.expt"
    path.write_text(json.dumps(small.document()))
    first = read_expt(path)[0]
    assert first.crystal is not None
    return replace(first, crystal=replace(first.crystal, space_group=group))


def settings(path: Path, **data: object) -> FitSettings:
    return FitSettings(data=DataSettings("start.expt", amplitudes=str(path), **data))  # type: ignore[arg-type]


def kinds(factors: object, *hkl: tuple[int, int, int]) -> list[int]:
    return factors.listing(torch.tensor(hkl)).tolist()  # type: ignore[attr-defined]


def test_absences_are_zero_and_what_is_beyond_the_list_is_unlisted(tmp_path: Path) -> None:
    write_mtz(tmp_path / "F.mtz", {"F": ("F", 1.0), "SIGF": ("Q", 0.1)})
    factors = read_factors({0: entry(tmp_path)}, settings(tmp_path / "F.mtz"), Journal())
    assert factors.default_F == 0
    assert kinds(factors, (1, 1, 1), (1, 2, 1), (9, 9, 9)) == [Listing.LISTED, Listing.ABSENT, Listing.UNLISTED]
    assert listed(factors, np.array([[1, 1, 1], [1, 2, 1], [9, 9, 9]])).tolist() == [True, False, False]
    table = factors.table()
    assert table is not None
    place = tuple(np.array([1, 2, 1]) - np.array(table.first))
    assert float(table.values[place].detach()) == 0


def test_a_list_without_symmetry_takes_what_is_absent_from_its_crystals(tmp_path: Path) -> None:
    write_mtz(tmp_path / "F.mtz", {"F": ("F", 1.0), "SIGF": ("Q", 0.1)}, group="P 1")
    factors = read_factors({0: entry(tmp_path)}, settings(tmp_path / "F.mtz"), Journal())
    assert factors.space_group == GROUP


def test_the_column_asked_for_is_read_and_else_the_measured_one(tmp_path: Path) -> None:
    write_mtz(tmp_path / "F.mtz", {"F_calc": ("F", 2.0), "F_obs": ("F", 1.0), "SIGF_obs": ("Q", 0.1)})
    expt, at = {0: entry(tmp_path)}, torch.tensor([[1, 1, 1]])

    def amplitude(**data: object) -> float:
        factors = read_factors(expt, settings(tmp_path / "F.mtz", **data), Journal())
        return float(factors.amplitudes[factors.slots(at)].detach())

    assert amplitude() == pytest.approx(13)
    assert amplitude(column="F_calc") == pytest.approx(26)
    with pytest.raises(DataError, match="F_nothing"):
        amplitude(column="F_nothing")


def test_every_crystal_is_held_against_the_amplitudes(tmp_path: Path) -> None:
    write_mtz(tmp_path / "F.mtz", {"F": ("F", 1.0), "SIGF": ("Q", 0.1)})
    first = entry(tmp_path)
    other = replace(first, crystal=CrystalConfig((40.0, 40.0, 52.0, 90.0, 90.0, 90.0), space_group="P 4"))
    with pytest.raises(DataError, match=r"1 of 2 crystals are of another kind \(experiment 4\)"):
        read_factors({1: first, 4: other}, settings(tmp_path / "F.mtz"), Journal())


def test_without_amplitudes_every_reflection_is_listed_with_one(tmp_path: Path) -> None:
    factors = read_factors({0: entry(tmp_path)}, FitSettings(data=DataSettings("start.expt")), Journal())
    assert factors.default_F == 1
    assert kinds(factors, (1, 2, 1)) == [Listing.LISTED]


def test_the_light_of_an_unlisted_reflection_is_unknown(tmp_path: Path) -> None:
    write_mtz(tmp_path / "F.mtz", {"F": ("F", 1.0), "SIGF": ("Q", 0.1)})
    (expt,) = tiny.experiments(1)
    expt.structure_factors = read_factors({0: entry(tmp_path)}, settings(tmp_path / "F.mtz"), Journal())
    light = expected_light(expt, np.array([[1, 1, 1], [1, 2, 1], [9, 9, 9]]))
    assert light is not None
    assert light[:2].tolist() == pytest.approx([169, 0], abs=1e-4)
    assert np.isnan(light[2])
