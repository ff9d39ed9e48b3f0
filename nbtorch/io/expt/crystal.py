"""dxtbx crystals: real-space vectors in Å at goniometer zero, a Hall symbol, and A matrices for a varying scan.

Rows a, b, c = S · Uᵀ, with S the cell's standard setting (a* along x, b* in the xy plane) and U the orientation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbtorch.config import CrystalConfig, GoniometerConfig, Mat3
from nbtorch.errors import GeometryError
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.expt.node import Node, rows3
from nbtorch.io.paths import one_line

Cell = tuple[float, float, float, float, float, float]
#: What a refinement elsewhere left about its own cell and orientation: no longer true once either has changed.
STALE = (
    "B_covariance",
    "B_covariance_at_scan_points",
    "A_at_scan_points",
    "recalculated_unit_cell",
    "recalculated_cell_parameter_sd",
    "recalculated_cell_volume_sd",
)


def read_crystal(node: Node, goniometer: GoniometerConfig | None) -> CrystalConfig:
    """A crystal of the document. Raises FileError for vectors without volume, left-handed ones or no known symmetry."""
    rows = np.array([node[f"real_space_{axis}"].vec3() for axis in "abc"])
    lengths = np.linalg.norm(rows, axis=1)
    volume = float(np.linalg.det(rows))
    if abs(volume) < 1e-6 * np.prod(lengths) or not np.all(lengths > 0):
        node.fail("real_space_a, _b and _c enclose no volume")
    if volume < 0:
        node.fail("real_space_a, _b and _c form a left-handed cell")
    cell, orientation = cell_and_orientation(rows)
    return CrystalConfig(
        cell=cell,
        orientation=orientation,
        goniometer=goniometer or GoniometerConfig(),
        space_group=space_group(node) or "P 1",
        scan_points=tuple(_real_rows(item) for item in node.list("A_at_scan_points")),
    )


def patch_crystal(document: dict[str, Any], crystal: CrystalConfig) -> dict[str, Any]:
    """A copy of a crystal's JSON with the vectors and scan points of ``crystal``, and without what they make stale."""
    patched = {key: value for key, value in document.items() if key not in STALE}
    for axis, row in zip("abc", real_space_rows(crystal), strict=True):
        patched[f"real_space_{axis}"] = [float(x) for x in row]
    if crystal.scan_points:
        patched["A_at_scan_points"] = [np.linalg.inv(np.array(point)).ravel().tolist() for point in crystal.scan_points]
    return patched


def standard_rows(cell: Cell) -> NDArray[np.float64]:
    """Rows a, b, c [3, 3] in Å of a cell whose a* lies along x and whose b* lies in the xy plane."""
    import gemmi

    # gemmi puts the first vector along x, the second in the xy plane: on the reciprocal cell these are a* and b*.
    reciprocal = gemmi.UnitCell(*cell).reciprocal()
    return np.asarray(np.linalg.inv(np.array(reciprocal.orth.mat.tolist())), dtype=np.float64)


def cell_and_orientation(rows: NDArray[np.float64]) -> tuple[Cell, Mat3]:
    """The cell (Å, degrees) and U of real-space rows a, b, c [3, 3] in Å."""
    a, b, c = (float(length) for length in np.linalg.norm(rows, axis=1))
    alpha, beta, gamma = _angle(rows[1], rows[2]), _angle(rows[0], rows[2]), _angle(rows[0], rows[1])
    cell = (a, b, c, alpha, beta, gamma)
    u = np.linalg.solve(standard_rows(cell), rows).T
    # The nearest rotation: the cell's angles carry rounding of 1e-14, which would leave U not quite orthogonal.
    left, _, right = np.linalg.svd(u)
    nearest: NDArray[np.float64] = left @ right
    return cell, rows3(nearest.ravel().tolist())


def real_space_rows(crystal: CrystalConfig) -> NDArray[np.float64]:
    """Rows a, b, c [3, 3] in Å at goniometer zero: cell, U, then misset about lab x, y, z.

    Raises GeometryError for nanoBragg's cell construction, which is not the cell that it names.
    """
    if crystal.construction != "exact":
        raise GeometryError(
            f"a crystal with construction {crystal.construction!r}",
            "an .expt holds exact cells",
            "Use construction 'exact'",
        )
    turn = np.array(crystal.orientation)
    for axis, angle in zip(np.eye(3), crystal.misset, strict=True):
        turn = rotation((axis[0], axis[1], axis[2]), angle) @ turn
    return np.asarray(standard_rows(crystal.cell) @ turn.T, dtype=np.float64)


def _angle(u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    return float(np.rad2deg(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)))


def _real_rows(node: Node) -> Mat3:
    """A scan point's A matrix (columns a*, b*, c*) as rows a, b, c."""
    matrix = np.array(node.mat3())
    if abs(np.linalg.det(matrix)) < 1e-6 * np.prod(np.linalg.norm(matrix, axis=0)):
        node.fail("the A matrix is singular")
    return rows3(np.linalg.inv(matrix).ravel())


def space_group(node: Node) -> str | None:
    """The extended Hermann–Mauguin name of a crystal's Hall symbol, P 1 where it has none.

    None for a setting that gemmi's tables lack, such as the primitive cell of a centred group. Raises FileError for
    text that is no Hall symbol.
    """
    import gemmi

    symbol = node.text("space_group_hall_symbol")
    if not symbol:
        return "P 1"
    try:
        found: gemmi.SpaceGroup | None = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(symbol))
    except (RuntimeError, ValueError) as error:
        node["space_group_hall_symbol"].fail(f"{symbol!r} is not a Hall symbol ({one_line(error)})")
    return None if found is None else str(found.xhm())
