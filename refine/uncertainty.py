"""How well a fit determines its parameters: two covariances, and the directions it does not determine.

The model's covariance is the inverse Fisher information with scales and backgrounds marginalized. Where the model does
not explain the data to their noise, the one to stand by is the sandwich, clustered by reflection, with each cluster's
leverage taken out (a jackknife over reflections: Bell and McCaffrey, Survey Methodology 28, 169, 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refine.objective import Linearization, Objective
from refine.outcome import Undetermined
from refine.parameters import ParameterSet
from refine.processes import total
from refine.solver import whole_matrix

UNDETERMINED_BEYOND = 0.5  # a direction whose sigma is more than this many spans is no better known than from a header
_NAMED_FROM = 0.2  # components of a direction that are named, relative to its largest
_SHARE = 0.01  # of a parameter's axis in undetermined directions, from which on it has no sigma


@dataclass(frozen=True)
class Uncertainty:
    """Over the T free parameters: Fisher and sandwich sigmas (NaN where not determined), covariance, directions."""

    names: tuple[str, ...]
    model: Tensor  # [T]
    sandwich: Tensor  # [T]
    covariance: Tensor  # [T, T] of the model
    correlation: Tensor  # [T, T]
    undetermined: tuple[Undetermined, ...]
    weakest: Undetermined | None  # of the determined directions; None where there is none
    bootstrap: Tensor | None = None  # [T] sigmas that check the sandwich's, where they were asked for


def information(parameters: ParameterSet, here: Linearization) -> Tensor:
    """Fisher information [T, T] of data and restraints over the free parameters, the headers' spans taken out."""
    free = parameters.free
    matrix = whole_matrix(here.arrow, parameters)[free][:, free]
    return matrix - torch.diag(parameters.column("span", free) ** -2)


def uncertainty(objective: Objective, parameters: ParameterSet, here: Linearization) -> Uncertainty:
    """Sigmas, correlations and undetermined directions at the values ``here`` was linearized at."""
    free = parameters.free
    names = tuple(parameters.parameters_[i].name for i in free)
    span = parameters.column("span", free)
    values, vectors = torch.linalg.eigh(information(parameters, here) * span[:, None] * span[None, :])
    # where the data say nothing a header's own error, one span, is what is known
    inverse = (vectors / values.clamp(min=1.0)) @ vectors.T
    covariance = inverse * span[:, None] * span[None, :]
    lost = values < UNDETERMINED_BEYOND**-2
    share = (vectors[:, lost] ** 2).sum(1)
    hidden = share > _SHARE
    model = torch.where(hidden, torch.nan, covariance.diagonal().clamp(min=0).sqrt())
    known = (vectors[:, ~lost] / values[~lost]) @ vectors[:, ~lost].T * span[:, None] * span[None, :]
    sandwich = _sandwich(objective, parameters, here, known).diagonal().clamp(min=0).sqrt()
    root = covariance.diagonal().clamp(min=1e-300).rsqrt()
    return Uncertainty(
        names,
        model,
        torch.where(hidden, torch.nan, sandwich),
        covariance,
        covariance * root[:, None] * root[None, :],
        tuple(describe(vectors[:, i], float(values[i]), names, span, parameters) for i in torch.nonzero(lost)[:, 0]),
        # eigh lists them from the least determined on
        next(
            (describe(vectors[:, i], float(values[i]), names, span, parameters) for i in torch.nonzero(~lost)[:1, 0]),
            None,
        ),
    )


def _sandwich(objective: Objective, parameters: ParameterSet, here: Linearization, covariance: Tensor) -> Tensor:
    """C·(Σ g gᵀ)·C [T, T] over reflections, g corrected for its own leverage: (1 − H_b·C)⁻¹·g_b."""
    row_of = {index: row for row, index in enumerate(parameters.free)}
    meat = torch.zeros_like(covariance)
    for block, score in zip(objective.blocks, here.scores, strict=True):
        place = torch.tensor([row_of[index] for index in parameters.of_block(block.index)], dtype=torch.long)
        # a reflection that alone determines a direction has leverage 1; 0.95 keeps its share finite
        gradient = score.without_leverage(covariance[place[:, None], place], 0.95)
        meat[place[:, None], place] += gradient.T @ gradient
    return covariance @ total(meat) @ covariance


def describe(
    direction: Tensor, value: float, names: Sequence[str], span: Tensor, parameters: ParameterSet
) -> Undetermined:
    """An eigenvector of the information (in spans) in words."""
    step = direction * span
    largest = int(direction.abs().argmax())
    chosen = [
        i
        for i in direction.abs().argsort(descending=True).tolist()
        if abs(direction[i]) > _NAMED_FROM * abs(direction[largest])
    ]
    units = {parameter.name: parameter.unit for parameter in parameters.parameters_}
    scale = float(step[largest])
    parts = [f"{float(step[i]) / scale:+.3g} {units[names[i]]} {names[i]}".replace("  ", " ") for i in chosen[:8]]
    more = f" and {len(chosen) - 8} more" if len(chosen) > 8 else ""
    sigma = max(value, 1e-12) ** -0.5
    size = f"its sigma is {sigma:.2g} times" if sigma < 1e5 else "the data do not change at all over"
    return Undetermined(
        ", ".join(parts) + more,
        f"{_cause([names[i] for i in chosen])}; {size} the error of a typical header",
    )


# What is known to move spots alike: kinds of parameters that take part, and the reason in words.
_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("rot_normal", ".rot_"),
        "a rotation of the detector about its normal is a rotation of all crystals about the beam",
    ),
    (("shift_normal", ".a"), "a longer distance moves spots as a smaller cell does"),
    (("shift_normal", "wavelength"), "a longer distance moves spots as a longer wavelength does"),
    (("wavelength", ".a"), "a longer wavelength moves spots as a smaller cell does"),
    (("beam.tilt", "shift_"), "a tilt of the beam moves spots as a shift of the detector does"),
    (("spectrum_offset", ".a"), "a longer wavelength moves spots as a smaller cell does"),
    (("bandwidth", "mosaic_spread"), "a wider spectrum smears spots as mosaic spread does"),
    (("scale", "F["), "brighter spots are larger amplitudes as well as larger scales"),
    (("scale", ".n_"), "a larger crystal is brighter, as a larger scale is"),
)


def _cause(names: Sequence[str]) -> str:
    """Why parameters of these ``names`` cannot be told apart."""
    for kinds, reason in _CAUSES:
        if all(any(_is_kind(name, kind) for name in names) for kind in kinds):
            return reason
    if len(names) == 1:
        return "nothing in the data depends on it"
    return "moved together in this proportion they change no pixel by more than its noise"


def _is_kind(name: str, kind: str) -> bool:
    """Whether parameter ``name`` is of ``kind``: ".a" is a cell length and ".rot_" a crystal's rotation."""
    name = name.partition("@")[0]  # without the knot of a curve
    if kind == ".a":
        return name.startswith("crystal") and name.endswith((".a", ".b", ".c"))
    if kind == ".rot_":
        return name.startswith("crystal") and ".rot_" in name
    return kind in name
