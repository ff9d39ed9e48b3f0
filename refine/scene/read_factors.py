"""The structure factors of a fit, from the file that the user names and what the experiments know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nbtorch.io import read_amplitudes
from nbtorch.io.amplitudes import Amplitudes, check_against_crystals
from nbtorch.io.amplitudes.coordinates import DEFAULT_DMIN
from nbtorch.io.expt import ExperimentEntry
from nbtorch.models import StructureFactors
from refine.records.journal import Journal
from refine.scene.shared_amplitudes import shared_values
from refine.settings.fit_settings import FitSettings


def read_factors(entries: Mapping[int, ExperimentEntry], settings: FitSettings, journal: Journal) -> StructureFactors:
    """The amplitudes asked for, for the experiments ``entries`` (number → entry); or every F = 1.

    A reflection that the file does not list has F = 0: where symmetry forbids it that is so, elsewhere nobody knows it,
    and no pixels of it are fitted. Raises DataError where a crystal is not the amplitudes'.
    """
    if settings.data.amplitudes == "none":
        return StructureFactors(default_F=1.0)
    first = entries[min(entries)]
    named, column = Path(settings.data.amplitudes), settings.data.column
    # coordinates are calculated as far as the fit goes, where the user says how far that is
    dmin = settings.data.dmin or DEFAULT_DMIN
    amplitudes = read_amplitudes(named, column=column, dmin=dmin, sample=first.sample)
    crystals = {number: entry.crystal for number, entry in entries.items() if entry.crystal is not None}
    for note in amplitudes.notes:
        journal.say("amplitudes_read", note)
    for note in check_against_crystals(amplitudes, crystals):
        journal.say("amplitudes_of_another_crystal", note)
    groups = sorted({crystal.space_group for crystal in crystals.values()})
    values, group = amplitudes.F, amplitudes.asu_index
    if settings.parameters.amplitudes:
        shared = shared_values(amplitudes.hkl, values, set(groups), friedel=settings.parameters.friedel)
        group, values = shared[0], shared[1]
        journal.add(*shared[2])
    return StructureFactors(
        amplitudes.hkl, values, group=group, default_F=0.0, space_group=_symmetry(amplitudes, groups)
    )


def _symmetry(amplitudes: Amplitudes, groups: Sequence[str]) -> str:
    """The space group that says which unlisted reflections are zero; a list in P 1 knows none, its crystals may."""
    if amplitudes.space_group != "P 1" or len(groups) != 1:
        return amplitudes.space_group
    return groups[0]
