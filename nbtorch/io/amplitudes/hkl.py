"""Text lists of amplitudes: h k l F, more columns ignored, one reflection a line."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import DataError, FileError
from nbtorch.io.amplitudes.kinds import refuse_other_kind
from nbtorch.io.amplitudes.symmetry import UnequalEquivalents, check_range, expand, pack
from nbtorch.io.amplitudes.types import Amplitudes, Merged, Sample
from nbtorch.io.paths import find_file, read_text

COMMENTS = ("#", "!", ";")


@dataclass(frozen=True, eq=False)
class HklList:
    """The reflections as listed: ``hkl`` int64 [n, 3], ``F`` float64 [n]. nanoBragg lets the last of equals win."""

    hkl: NDArray[np.int64]
    F: NDArray[np.float64]
    path: Path


def read_hkl(path: str | Path) -> HklList:
    """The reflections of a text file, exactly as listed. Blank lines and lines that start with # ! ; are skipped.

    Raises FileError naming the line that is not h k l F, DataError for NaN or infinite amplitudes and for indices past
    any real grid.
    """
    found = find_file(path)
    text = read_text(found)
    refuse_other_kind(text, found)
    table = _fast_table(text)
    if table is None:
        table = np.array(list(_careful_rows(text, found)), dtype=np.float64).reshape(-1, 4)
    indices, values = table[:, :3], table[:, 3]
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            str(found), f"{int(bad.sum())} of {bad.size} amplitudes are NaN or infinite", "Remove or repair those lines"
        )
    if not np.array_equal(indices, np.rint(indices)) or (np.abs(indices) > 1e6).any():
        wrong = np.flatnonzero(((indices != np.rint(indices)) | (np.abs(indices) > 1e6)).any(axis=1))[0]
        raise DataError(
            str(found), f"reflection {wrong + 1} has indices {indices[wrong]}, not integers", "Repair the line"
        )
    hkl = indices.astype(np.int64)
    check_range(hkl, found)
    return HklList(hkl, values, found)


def amplitudes_from_list(listed: HklList, sample: Sample | None = None) -> Amplitudes:
    """The list as amplitudes of the sphere.

    A list that holds one asymmetric unit is expanded in the space group of ``sample``. One that lists symmetry mates
    with amplitudes of their own is P 1, as is any list without a ``sample``: the last of equals wins, and Friedel mates
    that are not listed take their mate's value. Raises DataError for negative amplitudes.
    """
    negative = int((listed.F < 0).sum())
    if negative:
        raise DataError(
            str(listed.path),
            f"{negative} of {len(listed.F)} values in its fourth column are negative, and an amplitude is not",
            "If they are intensities, give them with their standard deviations as SHELX HKLF 4, XDS_ASCII or MTZ",
        )
    _, last = np.unique(pack(listed.hkl)[::-1], return_index=True)
    rows = len(listed.hkl) - 1 - last
    hkl, values = listed.hkl[rows], listed.F[rows]
    group = None if sample is None or sample.space_group == "P 1" else sample.space_group
    if group is not None:
        expanded = _in_space_group(hkl, values, group, listed.path)
        if expanded is not None:
            return expanded
    return _in_p1(hkl, values, listed.path, group)


def _in_space_group(hkl: NDArray[np.int64], values: NDArray[np.float64], group: str, path: Path) -> Amplitudes | None:
    """The list expanded in ``group``; None where it gives equivalents of one another different amplitudes."""
    note = f"{len(hkl)} amplitudes from a text list, which states no symmetry: expanded in the experiment's {group}"
    try:
        return expand(Merged(hkl, values, None, group, None, (note,)), path)
    except UnequalEquivalents:
        return None


def _in_p1(hkl: NDArray[np.int64], values: NDArray[np.float64], path: Path, group: str | None) -> Amplitudes:
    own = np.arange(len(hkl))
    mates = pack(np.concatenate([hkl, -hkl]))
    absent = ~np.isin(mates[len(hkl) :], mates[: len(hkl)])
    notes = [f"{len(hkl)} amplitudes from a text list, used as listed: no symmetry but Friedel's was applied"]
    if group is not None:
        notes[0] += f" (it gives reflections that {group} makes equal different amplitudes)"
    if absent.any():
        notes.append(f"{int(absent.sum())} Friedel mates were not listed and took their mate's amplitude")
    return Amplitudes(
        hkl=np.concatenate([hkl, -hkl[absent]]),
        F=np.concatenate([values, values[absent]]),
        space_group="P 1",
        cell=None,
        asu_index=np.concatenate([own, own[absent]]),
        n_unique=len(hkl),
        notes=tuple(notes),
        path=path,
    )


def _fast_table(text: str) -> NDArray[np.float64] | None:
    """The first four columns of a clean table; None where the careful reader must say what is wrong, and where."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty list: the caller refuses it
            return np.loadtxt(io.StringIO(text), usecols=(0, 1, 2, 3), comments=COMMENTS, ndmin=2)
    except (ValueError, IndexError):
        return None


def _careful_rows(text: str, path: Path) -> Iterator[list[float]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(COMMENTS):
            continue
        try:
            row = [float(word) for word in words[:4]]
        except ValueError:
            row = []
        if len(row) < 4:
            raise FileError(f"{path}, line {number}", f"{line.strip()[:60]!r} is not 'h k l F'", "Repair the line")
        yield row
