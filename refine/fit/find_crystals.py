"""Crystals for experiments that have none: of a known cell, turned as the spots of each experiment ask."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from nbtorch.errors import DataError
from nbtorch.functional.prediction import turn
from nbtorch.io import ExperimentList, read_amplitudes
from nbtorch.io.expt.crystal import standard_rows
from nbtorch.io.expt.read import read_document
from nbtorch.render.predict import mean_wave, spindle_of
from nbtorch.units import DEGREES
from refine.indexing.lattice_view import Floats, observed_rays
from refine.indexing.orientation_search import FEWEST, Found, orientations
from refine.processes import gathered
from refine.records.journal import Journal
from refine.scene.scene import FitExperiment, Scene
from refine.settings.fit_settings import FitSettings
from refine.spots.find_spots import Spots
from refine.spots.survey import Survey

# Share of the spots that the lattice must explain. Of simulated stills right ones explained 0.65 or more, wrong ones
# 0.42 or less.
EXPLAINED = 0.45

Cell = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class KnownCell:
    """A cell (Å, degrees), its space group, and where they come from."""

    cell: Cell
    space_group: str
    source: str


def without_crystal(document: ExperimentList) -> list[int]:
    """The numbers of the experiments that have no crystal."""
    return [number for number, entry in enumerate(document.entries) if entry.crystal is None]


def known_cell(settings: FitSettings) -> KnownCell:
    """The cell that the user states, else that of the amplitudes. Raises DataError where neither says one."""
    crystal, amplitudes = settings.crystal, settings.data.amplitudes
    read = None if amplitudes == "none" else read_amplitudes(Path(amplitudes), column=settings.data.column)
    if crystal.cell is not None:
        group = crystal.space_group or (read.space_group if read is not None else "P 1")
        return KnownCell(crystal.cell, gemmi.SpaceGroup(group).xhm(), "crystal.cell")
    if read is None or read.cell is None:
        raise DataError(
            "frames and no crystal",
            "nothing says what crystal it is: no cell is stated, and there are no amplitudes that carry one",
            "Give crystal.cell=[a,b,c,alpha,beta,gamma] crystal.space_group=…, or data.amplitudes=F.mtz",
        )
    return KnownCell(read.cell, crystal.space_group or read.space_group, amplitudes)


def with_placeholders(document: ExperimentList, numbers: list[int], known: KnownCell) -> ExperimentList:
    """``document`` with a crystal of the ``known`` cell for each of ``numbers``, not yet turned."""
    rows = standard_rows(known.cell)
    return with_crystals(document, dict.fromkeys(numbers, rows), known.space_group)


def with_crystals(document: ExperimentList, rows: Mapping[int, Floats], space_group: str) -> ExperimentList:
    """``document`` with real-space rows a, b, c [3, 3] (Å) for the experiments named, each a crystal of its own."""
    made: dict[str, Any] = copy.deepcopy(dict(document.document))
    hall = gemmi.SpaceGroup(space_group).hall
    for number, vectors in rows.items():
        node = made["experiment"][number]
        crystal: dict[str, Any] = {"__id__": "crystal", "space_group_hall_symbol": hall}
        crystal |= {f"real_space_{axis}": [float(x) for x in row] for axis, row in zip("abc", vectors, strict=True)}
        if node.get("crystal") is None:
            node["crystal"] = len(made.setdefault("crystal", []))
            made["crystal"].append(crystal)
        else:
            made["crystal"][node["crystal"]] = crystal
    found = read_document(made, document.path)
    # what was decided of the entries (stills without a scan, images) stays
    kept = zip(document.entries, found.entries, strict=True)
    entries = (replace(old, crystal=new.crystal, crystal_index=new.crystal_index) for old, new in kept)
    return replace(found, entries=tuple(entries))


def oriented(
    document: ExperimentList,
    numbers: list[int],
    known: KnownCell,
    scene: Scene,
    surveys: Mapping[int, Survey],
    journal: Journal,
) -> tuple[ExperimentList, dict[int, DataError]]:
    """``document`` with the crystals of ``numbers`` turned as their spots ask, and why some could not be.

    Raises the DataError of the first where none could.
    """
    mine: dict[int, Found | DataError] = {}
    for expt in scene.experiments:
        if expt.index in numbers and expt.index in surveys:
            journal.progress(f"looking for the orientation of crystal {expt.index}")
            mine[expt.index] = _orientation(expt, surveys[expt.index].spots, known)
    every = gathered(mine)
    failed = {number: found for number, found in every.items() if isinstance(found, DataError)}
    right = {number: found for number, found in every.items() if isinstance(found, Found)}
    if not right and failed:
        raise next(iter(failed.values()))
    for number, found in right.items():
        share = f"{found.explained:.0%} of the spots"
        said = f"crystal {number}: an orientation of the cell from {known.source} explains {share}"
        journal.say("crystal_found", said, "choice", crystal=number, explained=found.explained)
    for number, error in failed.items():
        journal.say("crystal_not_found", f"left out: crystal {number}: {error}", "warning", crystal=number)
    size = float(np.linalg.norm(standard_rows(known.cell)[0]))
    rows = {n: found.rows * (size / np.linalg.norm(found.rows[0])) for n, found in right.items()}
    return with_crystals(document, rows, known.space_group), failed


def _orientation(expt: FitExperiment, spots: Spots, known: KnownCell) -> Found | DataError:
    """The clearest orientation, or why there is none."""
    found = orientations(reciprocal_vectors(expt, spots), standard_rows(known.cell))
    given = f"{len(spots)} spots of experiment {expt.index}"
    remedy = "Check the cell, the beam centre and the distance (nb-refine --check), or index the frames elsewhere"
    if len(spots) < FEWEST:
        return DataError(given, f"a lattice needs {FEWEST} or more", remedy)
    if not found or found[0].explained < EXPLAINED:
        best = f"the best orientation explains {found[0].explained:.0%} of them" if found else "no orientation fits"
        return DataError(given, f"they do not lie on a lattice of this cell: {best}", remedy)
    return found[0]


def reciprocal_vectors(expt: FitExperiment, spots: Spots) -> Floats:
    """q [n, 3] (Å⁻¹) of spots, as on the Ewald sphere, turned back to goniometer zero; the brightest first."""
    import torch

    wave = mean_wave(expt.model).detach()
    rays = torch.as_tensor(observed_rays(expt.model, spots))
    q = rays * wave.norm() - wave
    scan = expt.entry.scan
    if scan is None:
        return np.asarray(q.numpy())
    frame = torch.as_tensor(spots.frame) if not expt.still else torch.full((len(spots),), 0.5, dtype=torch.float64)
    angle = (scan.phi_start + frame * scan.oscillation) * DEGREES
    spindle = spindle_of(expt.model)
    # R(phi)⁻¹ = fixed⁻¹ · rotation(axis, −phi) · setting⁻¹
    back = turn(q @ spindle.setting, spindle._replace(fixed=torch.eye(3).to(q), setting=torch.eye(3).to(q)), -angle)
    return np.asarray((back @ spindle.fixed).detach().numpy())
