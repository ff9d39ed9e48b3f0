"""How well a fit determines its parameters: two covariances, and the directions it does not determine.

The model's covariance is the inverse Fisher information with scales and backgrounds marginalized. Where the model does
not explain the data to their noise, the one to stand by is the sandwich, clustered by reflection, with each cluster's
leverage taken out (a jackknife over reflections: Bell and McCaffrey, Survey Methodology 28, 169, 2002). Neither is ever
held whole: time and memory grow linearly with the crystals.

A restraint is a measurement with an error of its own, in both: where it decides rather than the data, the sigma is its.
Common motions of all parts of a detector are left to the whole (:mod:`refine.parameters.gauge`) and are no error.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refine.least_squares.arrow_inverse import BlockInverse, emptied, inverse_with, lowest, rescaled, shifted
from refine.least_squares.normal import Arrow, BlockNormal, add_diagonal, assemble, joint
from refine.least_squares.objective import Linearization, Objective
from refine.least_squares.restraint_terms import restraints
from refine.parameters import kinds
from refine.parameters.gauge import as_chosen
from refine.parameters.kinds import Kind
from refine.parameters.parameter_set import Parameter, ParameterSet
from refine.records.outcome import Undetermined

UNDETERMINED_BEYOND = 0.5  # a direction whose sigma is more than this many spans is no better known than from a header
_NAMED_FROM = 0.2  # components of a direction that are named, relative to its largest
_SHARE = 0.01  # of a parameter's axis in undetermined directions, from which on it has no sigma


@dataclass(frozen=True)
class Uncertainty:
    """Over the T free parameters: Fisher and sandwich sigmas (NaN where not determined), and directions.

    ``covariance`` is the model's; it goes over the shared parameters and then each crystal's own: ``order`` [T] are
    their places among the ``names``.
    """

    names: tuple[str, ...]
    model: Tensor  # [T]
    sandwich: Tensor  # [T]
    covariance: BlockInverse
    order: Tensor
    undetermined: tuple[Undetermined, ...]
    weakest: Undetermined | None  # of the determined directions; None where there is none
    restraints: Tensor  # [T] the part of the sandwich's variances that is the restraints' own error
    bootstrap: Tensor | None = None  # [T] sigmas that check the sandwich's, where they were asked for

    def correlation(self) -> Tensor:
        """All correlations of the model [T, T]: for few parameters."""
        back = torch.argsort(self.order)
        return _on_unit_diagonal(self.covariance.matrix()[back[:, None], back])

    def correlation_of(self, block: int) -> tuple[tuple[str, ...], Tensor]:
        """Names [S + L_b] and correlations [S + L_b, S + L_b] of the shared parameters and those of one crystal."""
        rows, part = self.covariance.block(block)
        return tuple(self.names[i] for i in self.order[rows].tolist()), _on_unit_diagonal(part)


def _on_unit_diagonal(covariance: Tensor) -> Tensor:
    root = covariance.diagonal().clamp(min=1e-300).rsqrt()
    return covariance * root[:, None] * root


def information(parameters: ParameterSet, here: Linearization) -> Arrow:
    """Fisher information of data and restraints over the free parameters, the headers' spans taken out."""
    blocks = [parameters.local[block] for block in here.arrow.blocks]
    spans = [-(parameters.column("span", place) ** -2) for place in (parameters.shared, *blocks)]
    return add_diagonal(here.arrow, spans[0], spans[1:])


def uncertainty(
    objective: Objective, parameters: ParameterSet, here: Linearization, gauge: Tensor | None = None
) -> Uncertainty:
    """Sigmas, correlations and undetermined directions at the values ``here`` was linearized at.

    ``gauge`` [T, G]: combinations that change nothing, see :func:`refine.parameters.gauge.gauge_directions`.
    """
    stacked = [*parameters.shared, *(index for block in here.arrow.blocks for index in parameters.local[block])]
    order = torch.searchsorted(torch.tensor(parameters.free), torch.tensor(stacked))
    names = tuple(parameters.parameters_[i].name for i in stacked)
    span = parameters.column("span", stacked)
    in_spans = rescaled(information(parameters, here), span)
    values, vectors = lowest(in_spans, UNDETERMINED_BEYOND**-2)
    lost = values < UNDETERMINED_BEYOND**-2
    # where the data say nothing a header's own error, one span, is what is known
    least = values[lost].clamp(min=1.0)
    inverse = inverse_with(in_spans, values[lost], vectors[:, lost], least)
    hidden = (vectors[:, lost] ** 2).sum(1) > _SHARE
    known = inverse.plus(vectors[:, lost], torch.diag(-1 / least)).scaled(span)
    stiffness = restraints(parameters, stacked)[1] ** 2
    gauge = span.new_zeros(len(span), 0) if gauge is None else gauge[order]
    chosen = as_chosen(gauge, stiffness)
    covariance = inverse.scaled(span).plus(gauge, -chosen)
    of_restraints = known.around(shifted(emptied(here.arrow), stiffness)) - ((gauge @ chosen) * gauge).sum(1)
    of_restraints = of_restraints.clamp(min=0)
    variances = covariance.diagonal(), _sandwich(objective, here, known) + of_restraints
    sigmas = [variance.clamp(min=0).sqrt() for variance in variances]
    told = [describe(vectors[:, i], float(values[i]), names, span, parameters) for i in range(len(values))]
    back = torch.argsort(order)
    return Uncertainty(
        tuple(names[i] for i in back.tolist()),
        torch.where(hidden, torch.nan, sigmas[0])[back],
        torch.where(hidden, torch.nan, sigmas[1])[back],
        covariance,
        order,
        tuple(row for row, is_lost in zip(told, lost.tolist(), strict=True) if is_lost),
        next((row for row, is_lost in zip(told, lost.tolist(), strict=True) if not is_lost), None),
        of_restraints[back],
    )


def _sandwich(objective: Objective, here: Linearization, covariance: BlockInverse) -> Tensor:
    """Diagonal [T] of C·(Σ g gᵀ)·C over reflections, g corrected for its own leverage: (1 − H_b·C)⁻¹·g_b."""
    meat, place = [], {block: number for number, block in enumerate(here.arrow.blocks)}
    for block, score in zip(objective.blocks, here.scores, strict=True):
        _, own = covariance.block(place[block.index])
        # a reflection that alone determines a direction has leverage 1; 0.95 keeps its share finite
        pull = score.without_leverage(own, 0.95)
        squares = score._replace(few_gradient=pull, few_matrices=pull[:, :, None] * pull[:, None])
        meat.append(BlockNormal(*squares.total()))
    return covariance.around(joint(assemble(meat, covariance.n_shared, [b.index for b in objective.blocks])))


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
    rows = {parameter.name: parameter for parameter in parameters.parameters_}
    scale = float(step[largest])
    parts = [f"{float(step[i]) / scale:+.3g} {_unit(rows[names[i]])} {names[i]}".replace("  ", " ") for i in chosen[:8]]
    more = f" and {len(chosen) - 8} more" if len(chosen) > 8 else ""
    sigma = max(value, 1e-12) ** -0.5
    size = f"its sigma is {sigma:.2g} times" if sigma < 1e5 else "the data do not change at all over"
    return Undetermined(
        ", ".join(parts) + more,
        f"{_cause([rows[names[i]].kind for i in chosen])}; {size} the error of a typical header",
    )


def _unit(row: Parameter) -> str:
    """The unit of the parameter's value."""
    return f"{row.unit}²" if row.squared else row.unit


# What is known to move spots alike: of each group one kind takes part, and the reason in words.
_SHIFTS = (kinds.DETECTOR_SHIFT, kinds.DETECTOR_DISTANCE)
_CAUSES: tuple[tuple[tuple[tuple[Kind, ...], ...], str], ...] = (
    (
        ((kinds.DETECTOR_TURN,), (kinds.ORIENTATION,)),
        "a rotation of the detector about its normal is a rotation of all crystals about the beam",
    ),
    (((kinds.DETECTOR_DISTANCE,), (kinds.CELL_LENGTH,)), "a longer distance moves spots as a smaller cell does"),
    (((kinds.DETECTOR_DISTANCE,), (kinds.WAVELENGTH,)), "a longer distance moves spots as a longer wavelength does"),
    (((kinds.WAVELENGTH,), (kinds.CELL_LENGTH,)), "a longer wavelength moves spots as a smaller cell does"),
    (((kinds.BEAM_TILT,), _SHIFTS), "a tilt of the beam moves spots as a shift of the detector does"),
    (((kinds.SPECTRUM_OFFSET,), (kinds.CELL_LENGTH,)), "a longer wavelength moves spots as a smaller cell does"),
    (((kinds.BANDWIDTH,), (kinds.MOSAIC_SPREAD,)), "a wider spectrum smears spots as mosaic spread does"),
    (((kinds.SCALE,), (kinds.AMPLITUDE,)), "brighter spots are larger amplitudes as well as larger scales"),
    (((kinds.SCALE,), (kinds.N_CELLS,)), "a larger crystal is brighter, as a larger scale is"),
)


def _cause(of: Collection[Kind]) -> str:
    """Why parameters of these kinds cannot be told apart."""
    for groups, reason in _CAUSES:
        if all(any(kind in of for kind in group) for group in groups):
            return reason
    if len(of) == 1:
        return "nothing in the data depends on it"
    return "moved together in this proportion they change no pixel by more than its noise"
