"""MOSFLM orientation matrices: nine numbers, rows x, y, z, columns a*, b*, c*, multiplied by the wavelength."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbtorch.errors import FileError, GeometryError
from nbtorch.io.paths import find_file, one_line, read_text


def read_matrix(path: str | Path, wavelength: float) -> NDArray[np.float64]:
    """The reciprocal matrix [3, 3] in Å⁻¹, columns a*, b*, c*, of a file written for ``wavelength`` Å.

    A longer file (MOSFLM appends misset, U matrix and cell) is read to its ninth number. Raises FileError for fewer
    numbers or words, GeometryError for a matrix of no volume or a wavelength that is not positive.
    """
    found = find_file(path)
    if not (math.isfinite(wavelength) and wavelength > 0):
        raise GeometryError(
            f"wavelength {wavelength} Å for {found}", "the matrix is divided by it", "Give a positive one"
        )
    words = read_text(found).split()[:9]
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise FileError(
            str(found), f"the matrix holds a word that is no number ({one_line(error)})", "Repair the file"
        ) from error
    if len(values) < 9 or not all(math.isfinite(value) for value in values):
        raise FileError(str(found), f"it holds {len(values)} of the nine finite numbers of a matrix", "Repair the file")
    matrix = np.array(values).reshape(3, 3) / wavelength
    lengths = np.linalg.norm(matrix, axis=0)
    if not lengths.all() or abs(np.linalg.det(matrix)) < 1e-6 * lengths.prod():
        raise GeometryError(str(found), "a*, b* and c* enclose no volume", "Repair the matrix")
    return matrix
