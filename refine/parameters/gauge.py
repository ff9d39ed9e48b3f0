"""Motions of a detector that its parameters can tell in more than one way.

Where a whole and all of its parts may move, a common motion of the parts is a motion of the whole, too. The restraints
of the parts give it to the whole: of all ways to tell one and the same geometry, the fit takes that with the least
Σ(value/restraint)². Sigmas are those of that way of telling it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nbtorch.functional.tangents import tangents
from nbtorch.models import Detector
from refine.parameters.parameter_set import ParameterSet

_NOTHING = 1e-9  # of the largest singular value: a combination that moves no panel


class _Frames(nn.Module):
    """The panels' frames as a module, whose tensors can be replaced."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self) -> Tensor:
        return self.detector.frames()


def gauge_directions(parameters: ParameterSet, detector: Detector, block: int) -> Tensor:
    """Combinations [F, G] of the F free parameters that move no panel of ``detector``, to first order at the values.

    ``block``: any crystal before the detector. G is 0 where every body that moves has panels that no other one moves.
    """
    chosen, rows = parameters.of_block(block), parameters.parameters_
    frames = _Frames(detector)

    def moved(free: Tensor) -> tuple[Tensor]:
        changes = parameters.changes(block, free)
        own = {name: changes[name] for name in dict(frames.named_parameters()).keys() & changes.keys()}
        return (torch.func.functional_call(frames, own, ()),)

    none = parameters.start.new_zeros(len(parameters.free), 0)
    mine = [n for n, i in enumerate(chosen) if rows[i].kind.owner == "detector"]
    if not mine:
        return none
    _, (columns,) = tangents(moved, parameters.values.detach()[chosen])
    assert columns is not None
    _, size, axes = torch.linalg.svd(columns[mine].flatten(1).T, full_matrices=True)
    rank = int((size > _NOTHING * size.max()).sum())
    place = torch.tensor([parameters.free.index(chosen[n]) for n in mine], dtype=torch.long)
    found = none.new_zeros(len(parameters.free), len(mine) - rank)
    found[place] = axes[rank:].T
    return found


def as_chosen(gauge: Tensor, stiffness: Tensor) -> Tensor:
    """(GᵀPG)⁻¹ [G, G]: the variance that restraints P = diag(``stiffness`` [F]) leave along ``gauge`` G [F, G].

    It is no error: with the way of telling that the restraints choose, the true values have no part along it.
    """
    held = gauge.T @ (stiffness[:, None] * gauge)
    return torch.linalg.pinv(held, hermitian=True)
