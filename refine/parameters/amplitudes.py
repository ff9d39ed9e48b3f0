"""Structure factor amplitudes as parameters: one number for each symmetry-unique reflection whose spots are fitted.

A still or scan knows them up to its scale; several together, or a restraint to the amplitudes given, tell them. They
may be hundreds, but a box sees few of them: those that do not meet in any box share a column of the Jacobian (Curtis,
Powell and Reid, J. Inst. Math. Appl. 13, 117, 1974), and each box says whose derivative its pixels hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbtorch.kernels.reference import SampleGrid, lattice_terms, pixel_rays
from nbtorch.models import StructureFactors
from nbtorch.render import PixelSelection
from nbtorch.render.scene import Scene
from refine.parameters.kinds import AMPLITUDE, SCALE
from refine.parameters.panel_columns import PanelColumns
from refine.parameters.parameter_set import Entry, Parameter, ParameterSet
from refine.records.journal import JournalEntry
from refine.settings.fit_settings import ParameterSettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TENSOR = "structure_factors.amplitudes"
NAMES = "F[[]*"  # shell pattern of all their names
UNIT = "e"
_SPAN, _LEAST = 0.5, 0.01  # of an amplitude: how far a list is typically wrong; at 0 the pixels do not depend on it
_DARK = 1e-8  # of a whole spot's peak: what shines less in a pixel does not count as shining there
_ORIENTATIONS = 8  # that are asked where reflections shine
_AT_ONCE = 20_000  # pixels


def name_of(h: int, k: int, l: int) -> str:  # noqa: E741 - the third Miller index has no other name
    """What the amplitude of a reflection is called: F[1,2,3]."""
    return f"F[{h},{k},{l}]"


def indices_in(name: str) -> tuple[int, int, int]:
    """The reflection of an amplitude's ``name``: the inverse of :func:`name_of`."""
    h, k, l = (int(part) for part in name.removeprefix("F[").removesuffix("]").split(","))  # noqa: E741
    return h, k, l


def representative(hkl: Ints, space_group: str, *, friedel: bool) -> list[tuple[int, int, int]]:
    """Each reflection's name: its mate in the asymmetric unit of reciprocal space, or −h of that one for an F(−)."""
    import gemmi

    group = gemmi.SpaceGroup(space_group)
    unit, operations = gemmi.ReciprocalAsu(group), group.operations()
    found = []
    for row in hkl.tolist():
        (h, k, l), number = unit.to_asu(row, operations)  # noqa: E741 - the third Miller index has no other name
        minus = number % 2 == 0 and not friedel and not operations.is_reflection_centric([h, k, l])
        found.append((-h, -k, -l) if minus else (h, k, l))
    return found


def amplitude_parameters(
    factors: StructureFactors, seen: Tensor, space_group: str, settings: ParameterSettings
) -> list[Parameter]:
    """A parameter for each amplitude that shines in the reflections ``seen`` [n, 3]: those of ``factors`` above 0."""
    slots = factors.slots(seen).numpy()
    unique, first = np.unique(slots, return_index=True)
    names = representative(seen.numpy()[first], space_group, friedel=settings.friedel)
    values = factors.amplitudes.detach()
    rows = []
    for slot, (h, k, l) in zip(unique.tolist(), names, strict=True):  # noqa: E741
        start = float(values[slot]) if slot >= 0 else 0.0
        if start > 0:
            entry = (Entry(TENSOR, slot),)
            held = None if settings.amplitude_sigma is None else settings.amplitude_sigma * start
            name = name_of(h, k, l)
            row = Parameter(name, AMPLITUDE, UNIT, start, _SPAN * start, entry, lower=_LEAST * start, restraint=held)
            rows.append(replace(row, logarithmic=True))
    return rows


def with_scale_held(rows: Sequence[Parameter]) -> list[Parameter]:
    """``rows`` with the first scale held where no restraint and nothing that is held tells scales from amplitudes."""
    found = list(rows)
    scales = [i for i, row in enumerate(found) if row.kind == SCALE]
    brightness = [row for row in found if row.kind == AMPLITUDE] + [found[i] for i in scales]
    told = any(row.restraint is not None or not row.free for row in brightness)
    if scales and not told:
        found[scales[0]] = replace(found[scales[0]], free=False)
    return found


def told_from_scales(rows: Sequence[Parameter]) -> list[JournalEntry]:
    """What to say about how amplitudes are told from scales; nothing where none is a parameter."""
    amplitudes = [row for row in rows if row.kind == AMPLITUDE and row.free]
    if not amplitudes:
        return []
    held = [row.name for row in rows if row.kind == SCALE and not row.free]
    by = [row for row in amplitudes if row.restraint is not None]
    told = f"{', '.join(held)} held as the spots give it" if held else "restraints of scales"
    if by and not held:
        told = f"the restraints of {len(by)} to the given ones"
    count = f"{len(amplitudes)} amplitude{'s' * (len(amplitudes) > 1)}"
    said = (
        f"{count} of the spots found may be refined, one scale a crystal; all together are told from scales by {told}"
    )
    return [JournalEntry("amplitudes_told_from_scales", said, "choice", {"amplitudes": len(amplitudes), "held": held})]


@dataclass(frozen=True, eq=False)
class BoxAmplitudes:
    """The free amplitudes of the B boxes of a block, in C colours: no box has two of one colour.

    ``parameter`` [B, C] is the index of each box's parameter of every colour, −1 for none; ``along`` [C, U] how all of
    a colour move the amplitudes; ``every``: the parameters of all blocks.
    """

    parameter: Tensor
    along: Tensor
    every: frozenset[int]

    def others(self, place: Sequence[int]) -> list[int]:
        """The parameters of ``place`` that are no amplitudes."""
        return [index for index in place if index not in self.every]

    def joined(self, found: PanelColumns, own: Tensor, place: Sequence[int], panels: int) -> PanelColumns:
        """``found``, the columns of :meth:`others`, with ``own`` [B, Q, C] of the amplitudes, for all of ``place``."""
        where = torch.tensor([at for at, index in enumerate(place) if index not in self.every], dtype=torch.long)
        few = found.columns.shape[2]
        spread = own.new_zeros(panels, few, len(place))
        spread[:, :, where] = torch.eye(few).to(own) if found.spread is None else found.spread
        position = torch.zeros(max(place, default=0) + 1, dtype=torch.long)
        position[torch.tensor(place, dtype=torch.long)] = torch.arange(len(place))
        # a box without an amplitude of some colour has a column of zeros for it, wherever that goes
        return PanelColumns(
            torch.cat([found.columns, own], dim=2), found.panel, spread, position[self.parameter.clamp(min=0)]
        )


def box_amplitudes(shining: Tensor, parameters: ParameterSet) -> BoxAmplitudes:
    """The free amplitudes of boxes in which those at ``shining`` [B, n] (−1: none) of the models' amplitudes shine."""
    owner: dict[int, int] = {}
    for index in parameters.free:
        if parameters.parameters_[index].kind == AMPLITUDE:
            owner |= {entry.index: index for entry in parameters.parameters_[index].entries}
    of_boxes = [sorted({owner[slot] for slot in row if slot in owner}) for row in shining.tolist()]
    colour = _coloured(of_boxes)
    count = 1 + max(colour.values(), default=-1)
    parameter = torch.full((len(of_boxes), count), -1, dtype=torch.long)
    for box, indices in enumerate(of_boxes):
        for index in indices:
            parameter[box, colour[index]] = index
    size = next((len(p) for p in parameters.tensors_named(TENSOR)), 0)
    along = torch.zeros(count, size, dtype=parameters.start.dtype)
    for slot, index in owner.items():
        if index in colour:
            along[colour[index], slot] = 1
    return BoxAmplitudes(parameter, along, frozenset(owner.values()))


def _coloured(of_boxes: Sequence[Sequence[int]]) -> dict[int, int]:
    """A colour for each number, the least that none has which it meets in a box."""
    meets: dict[int, set[int]] = {}
    for indices in of_boxes:
        for index in indices:
            meets.setdefault(index, set()).update(indices)
    colour: dict[int, int] = {}
    for index in sorted(meets, key=lambda index: -len(meets[index])):
        taken = {colour[other] for other in meets[index] if other in colour}
        colour[index] = next(number for number in range(len(taken) + 1) if number not in taken)
    return colour


@torch.no_grad()
def shining_in(scene: Scene, pixels: PixelSelection, factors: StructureFactors) -> Tensor:
    """Which amplitudes shine in the middles of ``pixels`` [P, n], −1 for none: at most one for each of n orientations
    and sources."""
    chosen = torch.linspace(0, len(scene.basis) - 1, min(_ORIENTATIONS, len(scene.basis))).long()
    peak = float(scene.n_cells.prod())
    found = []
    for start in range(0, len(pixels), _AT_ONCE):
        part = pixels[start : start + _AT_ONCE]
        grid = SampleGrid(part.panel, part.slow, part.fast, scene.layer_step, 1, 1)
        diffracted, _ = pixel_rays(scene.panels, scene.beam, grid, scene.rays)
        of_lattice = (scene.wavelength, scene.basis[chosen], scene.n_cells, scene.metric, scene.table)
        terms = lattice_terms(diffracted, scene.beam.incident, *of_lattice, scene.lattice)
        slots = factors.slots(terms.nearest.reshape(-1, 3)).reshape(len(part), -1)
        bright = (terms.lattice_factor / peak) ** 2 > _DARK
        found.append(torch.where(bright.reshape(len(part), -1), slots, -1))
    return torch.cat(found) if found else torch.full((0, 1), -1)
