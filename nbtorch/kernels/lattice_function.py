"""The lattice sum of the C or Triton kernels as an autograd function.

It knows reverse mode, double reverse, forward mode, and batches of tangents.

An operator of ``torch.library`` has a reverse rule only; forward mode through it gives zero tangents without a word.
These functions add the forward rule, and under ``vmap`` (``torch.func.jacfwd``) hand all tangents to one kernel call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nbtorch.config import LatticeSettings
from nbtorch.functional.structure_factor import StructureFactorTable
from nbtorch.kernels import reference
from nbtorch.kernels.batching import apply_one_by_one, batch_size, leading
from nbtorch.kernels.direct import direct
from nbtorch.kernels.native import lattice_op
from nbtorch.kernels.native.lattice_op import flat_tensors

N_TENSORS = len(lattice_op.ARGUMENTS)


@dataclass(frozen=True)
class LatticeStatics:
    """What of a lattice sum is not a tensor, in both languages. Not a tuple: ``vmap`` would look inside."""

    settings: LatticeSettings
    first: tuple[int, int, int]
    choices: list[int]
    limits: list[float]
    server: str = "native"

    @property
    def flat(self) -> tuple[list[int], list[float]]:
        """The operators' arguments."""
        return self.choices, self.limits

    @classmethod
    def of(
        cls, settings: LatticeSettings, table: StructureFactorTable | None, dtype: torch.dtype, server: str = "native"
    ) -> LatticeStatics:
        """Statics of a sum over ``table`` for inputs of ``dtype``, served by "native" or "triton"."""
        choices, limits = lattice_op.flat_settings(settings, table, dtype)
        return cls(settings, table.first if table else (0, 0, 0), choices, limits, server)


class Operators(NamedTuple):
    """The three operators of a server, with the arguments of kernels/native/lattice_op.py."""

    value: Callable[..., Any]
    gradient: Callable[..., Any]
    tangents: Callable[..., Any]


def operators(server: str) -> Operators:
    """Those of the C kernels ("native") or of Triton's ("triton")."""
    if server == "triton":
        from nbtorch.kernels.gpu import launch  # imports Triton

        return Operators(launch.lattice_value, launch.lattice_gradient, launch.lattice_tangents)
    native = lattice_op.lattice_value, lattice_op.lattice_gradient, lattice_op.lattice_tangents
    return Operators(*map(direct, native))


def _reference(statics: LatticeStatics, tensors: Sequence[Any]) -> Tensor:
    """The twin, of the flat tensors in the operators' order."""
    diffracted, incident, wavelength, basis, n_cells, metric, values, weight = tensors
    table = None if values is None else StructureFactorTable(values, statics.first)
    return reference.lattice_sum(
        diffracted, incident, wavelength, basis, n_cells, metric, table, weight, statics.settings
    )


class LatticeSum(torch.autograd.Function):
    """(statics, diffracted, …, table values, weight) → [P, S]."""

    @staticmethod
    def forward(statics: LatticeStatics, *tensors: Tensor | None) -> Tensor:
        value: Tensor = operators(statics.server).value(flat_tensors(tensors), *statics.flat)
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.statics = inputs[0]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * (N_TENSORS + 1)
        wanted = ctx.needs_input_grad[1:]
        table = wanted[lattice_op.ARGUMENTS.index("table")]
        gradients = LatticeGradient.apply(ctx.statics, table, grad, *ctx.saved_tensors)
        return (None, *(g if needed else None for g, needed in zip(gradients, wanted, strict=True)))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        tangent: Tensor = LatticeTangent.apply(ctx.statics, *ctx.saved_tensors, *tangents)
        return tangent

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        return apply_one_by_one(LatticeSum, in_dims, arguments)


class LatticeGradient(torch.autograd.Function):
    """(statics, whether the table's is wanted, dL/dvalue, tensors…) → dL/d(tensors).

    Its own derivative, for double reverse mode, is the twin's.
    """

    @staticmethod
    def forward(
        statics: LatticeStatics, wants_table: bool, grad: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        return tuple(operators(statics.server).gradient(grad, flat_tensors(tensors), *statics.flat, wants_table))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.statics, ctx.wants_table = inputs[:2]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        live = [None if t is None else t.detach().requires_grad_() for t in ctx.saved_tensors]
        grad, *tensors = live
        present = [i for i, t in enumerate(tensors) if t is not None]
        with torch.enable_grad():
            value = _reference(ctx.statics, tensors)
            inputs = [t for t in tensors if t is not None]
            firsts = torch.autograd.grad(value, inputs, grad, create_graph=True, materialize_grads=True)
        wanted = [grads[i] for i in present]
        if not ctx.wants_table and tensors[6] is not None:
            wanted[present.index(6)] = torch.zeros_like(firsts[present.index(6)])
        leaves = [t for t in live if t is not None]
        live_firsts = [(f, w) for f, w in zip(firsts, wanted, strict=True) if f.requires_grad]
        outputs, weights = zip(*live_firsts, strict=True)
        seconds = iter(torch.autograd.grad(outputs, leaves, weights, materialize_grads=True))
        return (None, None, *(None if t is None else next(seconds) for t in live))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        return apply_one_by_one(LatticeGradient, in_dims, arguments)


class LatticeTangent(torch.autograd.Function):
    """(statics, tensors…, tangents…) → tangent [P, S]. A batch of tangents at one point is one kernel call."""

    @staticmethod
    def forward(statics: LatticeStatics, *arguments: Tensor | None) -> Tensor:
        tensors, tangents = arguments[:N_TENSORS], arguments[N_TENSORS:]
        single = [None if t is None else t[None] for t in tangents]
        tangent: Tensor = operators(statics.server).tangents(flat_tensors(tensors), single, 1, *statics.flat)[1]
        return tangent[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        statics, tensors = arguments[0], arguments[1 : N_TENSORS + 1]
        if any(dim is not None for dim in in_dims[: N_TENSORS + 1]):
            return apply_one_by_one(LatticeTangent, in_dims, arguments)
        size = batch_size(in_dims, arguments)
        tangents = [
            None if tangent is None else leading(tangent, dim, size)
            for tangent, dim in zip(arguments[N_TENSORS + 1 :], in_dims[N_TENSORS + 1 :], strict=True)
        ]
        return operators(statics.server).tangents(flat_tensors(tensors), tangents, size, *statics.flat)[1], 0
