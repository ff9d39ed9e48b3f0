"""Intensities become amplitudes: repeats merged by symmetry, √I, French–Wilson where weak, 0 where forbidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError
from nbtorch.functional.absences import systematic_absences
from nbtorch.io.amplitudes.french_wilson import WEAK, weak_amplitudes, wilson_means
from nbtorch.io.amplitudes.symmetry import centric, check_range
from nbtorch.io.amplitudes.types import Cell, ColumnChoice, Merged
from nbtorch.io.paths import one_line

Floats = NDArray[np.float64]
Kind = Literal["amplitudes", "intensities"]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Observations:
    """Intensities (or, by ``kind``, amplitudes) as a file lists them, repeats and symmetry mates and all.

    ``hkl`` int64 [n, 3], ``value`` [n], ``sigma`` [n] or None where the file has none; ``cell`` in Å and degrees,
    None where neither the file nor the experiment says it.
    """

    hkl: Ints
    value: Floats
    sigma: Floats | None
    space_group: str
    cell: Cell | None
    kind: Kind = "intensities"


def refuse_negative(values: Floats, given: str) -> None:
    """Raises DataError where an amplitude is less than zero: it is an intensity, or a number that marks its absence."""
    negative = values < 0
    if negative.any():
        raise DataError(
            given,
            f"{int(negative.sum())} of {negative.size} amplitudes are negative (the least is {values.min():g}), and an "
            "amplitude is not",
            "Choose another column, or mark what was not measured as NaN; intensities are read as such",
        )


def merged_from_observations(
    observed: Observations, path: Path, label: str, notes: tuple[str, ...], *, friedel: bool = True
) -> Merged:
    """The amplitudes of ``observed``: means of equivalents, weighted by 1/σ², then :func:`amplitudes_of_intensities`.

    ``friedel``: F(hkl) and F(−h−k−l) are one. Without it mates stay apart, in rows of their own. Raises DataError where
    nothing is left.
    """
    keep, kept = _usable(observed)
    if not keep.any():
        raise DataError(str(path), "none of its values is a number with a standard deviation above 0", "Check the file")
    check_range(observed.hkl[keep], path)
    allowed = keep & ~systematic_absences(observed.hkl, observed.space_group)
    if not allowed.any():
        raise DataError(str(path), f"{observed.space_group} forbids all of its reflections", "Check the space group")
    if (forbidden := int((keep & ~allowed).sum())) > 0:
        kept = (*kept, f"{forbidden} that {observed.space_group} forbids were left out: they are 0")
    table = _merge(observed, allowed, friedel, path)
    said = f"{int(allowed.sum())} {observed.kind} of {label} merged to {len(table.hkl)} in {observed.space_group}"
    if observed.kind == "amplitudes":
        refuse_negative(table.value, f"{label} of {path}")
        values = table.value
    else:
        values, note = amplitudes_of_intensities(table, label)
        kept = (*kept, note)
    choice = ColumnChoice(label, observed.kind, None if observed.sigma is None else f"sigma({label})")
    return Merged(
        hkl=table.hkl,
        plus=values,
        minus=None,
        space_group=observed.space_group,
        cell=observed.cell,
        notes=(*notes, said, *kept),
        column=choice,
        dropped=int((~keep).sum()),
    )


def amplitudes_of_intensities(merged: Observations, label: str) -> tuple[Floats, str]:
    """√I, French–Wilson where I < 4σ, 0 where symmetry forbids the reflection; and a sentence that says so."""
    intensity = merged.value
    absent = systematic_absences(merged.hkl, merged.space_group)
    amplitude = np.sqrt(np.maximum(intensity, 0.0))
    amplitude[absent] = 0.0
    forbidden = f"; {int(absent.sum())} systematic absences became 0" if absent.any() else ""
    if merged.sigma is None or merged.cell is None:
        lacking = "it has no standard deviations" if merged.sigma is None else "the cell is not known"
        negative = int((intensity < 0).sum())
        return amplitude, f"{label} became √I; {lacking}, so {negative} negative ones became 0{forbidden}"
    sigma = merged.sigma
    known = np.isfinite(sigma) & (sigma > 0) & ~absent
    weak = known & (intensity < WEAK * np.where(known, sigma, 1.0))
    if weak.any():
        mean = _expected(merged, ~absent)
        restricted = centric(merged.hkl, merged.space_group)
        amplitude[weak] = weak_amplitudes(intensity[weak], sigma[weak], mean[weak], restricted[weak])
    return amplitude, f"{label} became √I, French–Wilson for the {int(weak.sum())} below {WEAK:g}σ{forbidden}"


def _expected(merged: Observations, allowed: NDArray[np.bool_]) -> Floats:
    """Wilson's mean intensity [n] of each reflection that symmetry allows."""
    import gemmi

    assert merged.cell is not None
    indices = merged.hkl.astype(np.int32)
    operations = gemmi.SpaceGroup(merged.space_group).operations()
    epsilon = np.array(operations.epsilon_factor_without_centering_array(indices), dtype=np.float64)
    inverse = np.array(gemmi.UnitCell(*merged.cell).calculate_1_d2_array(indices), dtype=np.float64)
    mean = np.empty(len(indices))
    mean[allowed] = wilson_means(merged.value[allowed], epsilon[allowed], inverse[allowed])
    return mean


def _usable(observed: Observations) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """The rows with a value (and a standard deviation above 0, where there are any), and what was left out."""
    keep = np.isfinite(observed.value) & (observed.hkl != 0).any(axis=1)
    if observed.sigma is not None:
        keep &= np.isfinite(observed.sigma) & (observed.sigma > 0)
    left = int((~keep).sum())
    return keep, (f"{left} rows without a value or a standard deviation above 0 were dropped",) if left else ()


def _merge(observed: Observations, keep: NDArray[np.bool_], friedel: bool, path: Path) -> Observations:
    """The means of equivalents of the rows ``keep``, in gemmi's asymmetric unit."""
    import gemmi

    table = gemmi.Intensities()
    cell = gemmi.UnitCell(*(observed.cell or (1.0, 1.0, 1.0, 90.0, 90.0, 90.0)))
    group = gemmi.SpaceGroup(observed.space_group)
    weight = np.ones(int(keep.sum())) if observed.sigma is None else observed.sigma[keep]
    try:
        table.set_data(cell, group, observed.hkl[keep].astype(np.int32), observed.value[keep], weight)
        table.merge_in_place(gemmi.DataType.Mean if friedel else gemmi.DataType.Anomalous)
    except (RuntimeError, ValueError) as error:
        raise DataError(str(path), f"its reflections cannot be merged ({one_line(error)})", "Check them") from error
    sign = 1 if friedel else np.where(np.array(table.isign_array) < 0, -1, 1)[:, None]
    return replace(
        observed,
        hkl=np.array(table.miller_array, dtype=np.int64) * sign,
        value=np.array(table.value_array, dtype=np.float64),
        sigma=None if observed.sigma is None else np.array(table.sigma_array, dtype=np.float64),
    )
