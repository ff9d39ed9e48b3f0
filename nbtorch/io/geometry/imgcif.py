"""The geometry of an imgCIF: axes that depend on one another, and arrays of pixels that hang from them.

The position of a pixel is the sum of the displacements along the axes of its array, moved by every axis they depend on
(imgCIF dictionary, category AXIS). The displacement of the first pixel is taken for its outer corner, as dxtbx does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nbtorch.config import BeamConfig, DetectorConfig, GoniometerConfig, PanelConfig, ScanConfig, Vec3
from nbtorch.errors import FileError
from nbtorch.io.cbf import SECTION, scan_sections
from nbtorch.io.expt.detector import vec3
from nbtorch.io.expt.goniometer import rotation
from nbtorch.io.expt.node import rows3
from nbtorch.io.geometry.chain import Axis, total
from nbtorch.io.geometry.sensor import attenuation_length
from nbtorch.io.geometry.simple import DEFAULTS, Header, Known, Rectangle, show, simple_beam
from nbtorch.io.geometry.types import HeaderGeometry, Stated
from nbtorch.io.paths import one_line

if TYPE_CHECKING:
    import gemmi

Row = Mapping[str, str]
MAX_CHAIN = 64


def header_text(content: bytes, path: Path) -> str:
    """The text of a CBF: all but its binary sections, each replaced by a question mark."""
    pieces, last = [], 0
    for section in scan_sections(content, path):
        begin = content.rfind(b"\n;", last, content.rfind(SECTION, last, section.start))
        end = content.find(b"\n;", section.start + section.size)
        pieces += [content[last:begin], b"\n?"]
        last = len(content) if end < 0 else end + 2
    return b"".join([*pieces, content[last:]]).decode("latin-1")


class Tables:
    """The categories of a CIF as lists of rows, whether written as loops or as single items."""

    def __init__(self, text: str, path: Path) -> None:
        import gemmi

        self.path = path
        try:
            self.block: gemmi.cif.Block = gemmi.cif.read_string(text)[0]
        except (ValueError, RuntimeError, IndexError) as error:
            raise FileError(str(path), f"its header is no CIF ({one_line(error)})", "Copy it again") from error

    def rows(self, category: str) -> list[Row]:
        """The rows of ``category``: item (without the category) → text, "." and "?" left out."""
        import gemmi

        found = self.block.get_mmcif_category(f"_{category}.", raw=True)
        names = list(found)
        rows = zip(*found.values(), strict=True) if names else []
        return [
            {
                name: gemmi.cif.as_string(value)
                for name, value in zip(names, row, strict=True)
                if value not in (".", "?")
            }
            for row in rows
        ]

    @property
    def has_axes(self) -> bool:
        """Whether the file says where its pixels are by axes."""
        return bool(self.rows("axis")) and bool(self.rows("array_structure_list_axis"))


def imgcif_geometry(
    tables: Tables, comments: Header, mask: tuple[Rectangle, ...] = (), frame: int = 0
) -> HeaderGeometry:
    """The geometry of an imgCIF; ``comments`` (of a miniCBF header in the same file) fill in what imgCIF lacks.

    Raises FileError naming the table and row where an axis or a number is missing.
    """
    axes = _axes(tables)
    stated: list[Stated] = []
    known = {name: comments[name] for name in ("wavelength", "thickness", "material", "saturation") if name in comments}
    known |= _wavelength(tables) | _intensities(tables)
    if "wavelength" not in known:
        raise FileError(str(tables.path), "its header does not say: wavelength", "Give geometry.wavelength=Å")
    used = {**DEFAULTS, **known}
    panels = _panels(tables, axes, used, mask, stated)
    goniometer, scan = _goniometer(tables, axes, stated)
    shown = ("wavelength", "thickness", "saturation", "underload", "gain", "polarization")
    said = [Stated(name, show(name, used[name].value), used[name].origin, used[name].assumed) for name in shown]
    beam: BeamConfig = simple_beam(used)
    return HeaderGeometry(beam, DetectorConfig(panels), goniometer, scan, 1, tuple(said + stated))


def plain_numbers(tables: Tables) -> Header:
    """What an imgCIF without axes says all the same: wavelength, saturation, gain."""
    return _wavelength(tables) | _intensities(tables)


def listed_size(tables: Tables) -> tuple[int, int]:
    """Pixels (fast, slow) of the first array of _array_structure_list, (0, 0) where it lists none."""
    sizes = {
        int(_number(row, "precedence", tables)): int(_number(row, "dimension", tables))
        for row in reversed(tables.rows("array_structure_list"))
    }
    return sizes.get(1, 0), sizes.get(2, 0)


def _number(row: Row, name: str, tables: Tables, default: float | None = None) -> float:
    text = row.get(name, "")
    try:
        return float(re.sub(r"\(\d+\)$", "", text)) if text or default is None else default
    except ValueError as error:
        raise FileError(f"{tables.path}, {name} {text or '(absent)'}", "it should be a number", "Repair it") from error


def _vector(row: Row, stem: str, tables: Tables) -> Vec3:
    x, y, z = (_number(row, f"{stem}[{i}]", tables, 0.0) for i in (1, 2, 3))
    return x, y, z


def _axes(tables: Tables) -> dict[str, tuple[Axis, str, str]]:
    """name → (axis at the values of this frame, what it depends on, equipment)."""
    settings: dict[str, Row] = {row["axis_id"]: row for row in tables.rows("diffrn_scan_axis") if "axis_id" in row}
    for row in tables.rows("diffrn_scan_frame_axis"):
        if "axis_id" in row:
            settings[row["axis_id"]] = {**settings.get(row["axis_id"], {}), **row}
    axes = {}
    for row in tables.rows("axis"):
        name, kind = row.get("id", ""), row.get("type", "general")
        if kind not in ("rotation", "translation"):
            continue  # general axes, such as gravity and source, move nothing
        stem = "angle" if kind == "rotation" else "displacement"
        placed = settings.get(name, {})
        value = _number(placed, stem, tables, _number(placed, f"{stem}_start", tables, 0.0))
        vector = _vector(row, "vector", tables)
        if not any(vector):
            raise FileError(f"{tables.path}, axis {name}", "its vector has no length", "Repair _axis.vector")
        axis = Axis(name, kind, vector, _vector(row, "offset", tables), (value,))  # type: ignore[arg-type]
        axes[name] = (axis, row.get("depends_on", "."), row.get("equipment", ""))
    return axes


def _chain(axes: Mapping[str, tuple[Axis, str, str]], start: str, tables: Tables) -> tuple[Axis, ...]:
    found: list[Axis] = []
    name = start
    while name != ".":
        if name not in axes or len(found) == MAX_CHAIN:
            why = "it is not listed" if name not in axes else "its depends_on chain has no end"
            raise FileError(f"{tables.path}, axis {name}", why, "Repair _axis.depends_on")
        axis, name, _ = axes[name]
        found.append(axis)
    return tuple(found)


def _panels(
    tables: Tables, axes: Mapping[str, tuple[Axis, str, str]], used: Header, mask: tuple[Rectangle, ...],
    stated: list[Stated],
) -> tuple[PanelConfig, ...]:  # fmt: skip
    sets: dict[str, list[Row]] = {}
    for row in tables.rows("array_structure_list_axis"):
        name = row.get("axis_set_id") or row.get("axis_id", "")
        sets.setdefault(name, []).append(row)
    arrays: dict[str, dict[int, Row]] = {}
    listed = tables.rows("array_structure_list")
    if any("array_section_id" in row for row in listed):  # then what has no section is the stack of them
        listed = [row for row in listed if "array_section_id" in row]
    for row in listed:
        name = row.get("array_section_id") or row.get("array_id", "")
        arrays.setdefault(name, {})[int(_number(row, "precedence", tables))] = row
    panels = []
    for name, by_precedence in arrays.items():
        if {1, 2} - set(by_precedence):
            raise FileError(f"{tables.path}, array {name}", "it has no fast and slow index", "Repair it")
        panels.append(_panel(name, by_precedence, sets, axes, used, tables))
        origin = " ".join(f"{x:.6f}" for x in panels[-1].origin)
        stated.append(Stated(f"{name}.origin", f"{origin} mm", "axes of _array_structure_list_axis"))
    if not panels:
        raise FileError(str(tables.path), "it lists no array of pixels", "Check the file")
    return tuple(replace(panel, mask=mask) if len(panels) == 1 else panel for panel in panels)


def _panel(
    name: str, indices: Mapping[int, Row], sets: Mapping[str, list[Row]], axes: Mapping[str, tuple[Axis, str, str]],
    used: Header, tables: Tables,
) -> PanelConfig:  # fmt: skip
    """One array: its fast and slow axis carry the pixels, the rest of the chain carries them."""
    directions, steps, chains, moved = [], [], [], dict(axes)
    for precedence in (1, 2):
        row = indices[precedence]
        if row.get("direction", "increasing") != "increasing":
            raise FileError(f"{tables.path}, array {name}", "its index decreases along its axis", "Give an .expt")
        listed = sets.get(row.get("axis_set_id", ""), [])
        if len(listed) != 1 or listed[0].get("axis_id", row.get("axis_set_id", "")) not in axes:
            raise FileError(f"{tables.path}, array {name}", "an index of it does not move along one axis", "Repair it")
        axis_id = listed[0].get("axis_id", row.get("axis_set_id", ""))
        axis, depends_on, equipment = axes[axis_id]
        displacement = _number(listed[0], "displacement", tables, 0.0)
        moved[axis_id] = (replace(axis, values=(displacement,)), depends_on, equipment)
        steps.append(_number(listed[0], "displacement_increment", tables))
        directions.append(axis_id)
    for axis_id, step in zip(directions, steps, strict=True):
        chain = _chain(moved, axis_id, tables)
        turned = total(chain[1:])[:3, :3] @ np.asarray(chain[0].vector)
        chains.append((chain, np.sign(step) * turned / np.linalg.norm(turned) + 0.0))
    longest = max((chain for chain, _ in chains), key=len)
    (_, fast), (_, slow) = chains
    thickness, material = float(used["thickness"].value), str(used["material"].value)
    length = attenuation_length(material, used["wavelength"].value) if thickness > 0 else np.inf
    size = (int(_number(indices[1], "dimension", tables)), int(_number(indices[2], "dimension", tables)))
    return PanelConfig(
        vec3(fast), vec3(slow), vec3(total(longest)[:3, 3] + 0.0), (abs(steps[0]), abs(steps[1])), size, name=name,
        thickness=thickness, attenuation_length=float(length), material=material,
        trusted_range=(used["underload"].value, used["saturation"].value), gain=used["gain"].value,
    )  # fmt: skip


def _goniometer(
    tables: Tables, axes: Mapping[str, tuple[Axis, str, str]], stated: list[Stated]
) -> tuple[GoniometerConfig | None, ScanConfig | None]:
    """The axis with an increment turns during the frame; the axes nearer to the crystal make the fixed rotation."""
    turning = {name: item for name, item in axes.items() if item[2] == "goniometer" and item[0].kind == "rotation"}
    steps = {
        row.get("axis_id", ""): _number(row, "angle_increment", tables, 0.0) or _number(row, "angle_range", tables, 0.0)
        for row in tables.rows("diffrn_scan_axis")
    }
    scanned = [name for name in turning if steps.get(name)]
    if len(scanned) > 1:
        why = f"several axes turn during a frame: {', '.join(scanned)}"
        raise FileError(f"{tables.path}, _diffrn_scan_axis", why, "Give an .expt")
    if not scanned:
        return None, None
    parents = {item[1] for item in turning.values()}
    tips = [name for name in turning if name not in parents]
    chain = next((c for c in (_chain(axes, tip, tables) for tip in tips) if scanned[0] in {a.name for a in c}), ())
    place = [axis.name for axis in chain].index(scanned[0])
    spindle = chain[place]
    x, y, z = (float(v) for v in np.asarray(spindle.vector) / np.linalg.norm(spindle.vector))
    stated.append(Stated("spindle", f"{x:.6f} {y:.6f} {z:.6f}", f"_axis {spindle.name}"))
    start, width = spindle.values[0], steps[spindle.name]
    stated.append(Stated("oscillation", show("oscillation", (start, width)), f"_diffrn_scan_axis {spindle.name}"))
    goniometer = GoniometerConfig((x, y, z), _turned(chain[:place]), _turned(chain[place + 1 :]))
    return goniometer, ScanConfig(start, width, 1)


def _turned(chain: tuple[Axis, ...]) -> tuple[Vec3, Vec3, Vec3]:
    turned = np.eye(3)
    for axis in chain:
        if axis.kind == "rotation":
            turned = rotation(axis.vector, axis.values[0]) @ turned
    return rows3(turned.ravel().tolist())


def _wavelength(tables: Tables) -> dict[str, Known]:
    values = [
        _number(row, "wavelength", tables) for row in tables.rows("diffrn_radiation_wavelength") if "wavelength" in row
    ]
    return (
        {"wavelength": Known(values[0], "_diffrn_radiation_wavelength.wavelength")} if values and values[0] > 0 else {}
    )


def _intensities(tables: Tables) -> dict[str, Known]:
    """Overload, undefined value and gain of _array_intensities, where they are numbers."""
    names = {"overload": "saturation", "undefined_value": "underload", "gain": "gain"}
    found = {}
    for row in tables.rows("array_intensities")[:1]:
        for item, name in names.items():
            if item in row:
                found[name] = Known(_number(row, item, tables), f"_array_intensities.{item}")
    return found
