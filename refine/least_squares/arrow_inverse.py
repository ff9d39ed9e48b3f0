"""What is asked of the inverse of an arrow-shaped matrix, at a cost that grows linearly with its blocks.

The inverse of an arrow is not sparse. But it is a block of each crystal's own and a product of few columns, which is
all that its diagonal, its blocks and its products with few columns need. Vectors go over the shared parameters and
then each block's own, in the order of the arrow ("stacked").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import qr
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from refine.least_squares.normal import Arrow, add_diagonal, inverse_of

_DENSE_FROM = 0.3  # of all eigenvalues, from which on to find some costs as much as to find all


class BlockInverse(NamedTuple):
    """The symmetric matrix [T, T] that is ``own`` [L_b, L_b] on each block, 0 elsewhere, plus spread·core·spreadᵀ.

    ``spread``: [T, R]; ``core``: [R, R]; ``n_shared`` is how many of the T come before the first block.
    """

    own: tuple[Tensor, ...]
    spread: Tensor
    core: Tensor
    n_shared: int

    def block(self, number: int) -> tuple[Tensor, Tensor]:
        """Where [S + L_b] the shared parameters and those of a block stand, and that part of the matrix."""
        shared, slices = slice(0, self.n_shared), slices_of(self.own, self.n_shared)
        rows = torch.cat([torch.arange(len(self.spread))[shared], torch.arange(len(self.spread))[slices[number]]])
        part = self.spread[rows] @ self.core @ self.spread[rows].T
        part[self.n_shared :, self.n_shared :] += self.own[number]
        return rows, part

    def diagonal(self) -> Tensor:
        """The diagonal [T]."""
        found = ((self.spread @ self.core) * self.spread).sum(1)
        for own, where in zip(self.own, slices_of(self.own, self.n_shared), strict=True):
            found[where] += own.diagonal()
        return found

    def matrix(self) -> Tensor:
        """All of it [T, T]: for few parameters."""
        full = self.spread @ self.core @ self.spread.T
        for own, where in zip(self.own, slices_of(self.own, self.n_shared), strict=True):
            full[where, where] += own
        return full

    def times(self, columns: Tensor) -> Tensor:
        """The product with ``columns`` [T, n]."""
        found = self.spread @ (self.core @ (self.spread.T @ columns))
        for own, where in zip(self.own, slices_of(self.own, self.n_shared), strict=True):
            found[where] += own @ columns[where]
        return found

    def plus(self, columns: Tensor, core: Tensor) -> BlockInverse:
        """This matrix + columns·core·columnsᵀ of ``columns`` [T, n] and ``core`` [n, n]."""
        joined = torch.block_diag(self.core, core)
        return self._replace(spread=torch.cat([self.spread, columns], dim=1), core=joined)

    def scaled(self, by: Tensor) -> BlockInverse:
        """This matrix with rows and columns times ``by`` [T]."""
        parts = [by[where] for where in slices_of(self.own, self.n_shared)]
        own = tuple(matrix * part[:, None] * part for matrix, part in zip(self.own, parts, strict=True))
        return self._replace(own=own, spread=self.spread * by[:, None])

    def around(self, middle: Arrow) -> Tensor:
        """The diagonal [T] of this matrix · ``middle`` · this matrix; ``middle`` is an arrow of the same blocks."""
        product = times(middle, self.spread)
        across = self.spread @ self.core
        found = ((across @ (self.spread.T @ product)) * across).sum(1)
        for own, local, where in zip(self.own, middle.local, slices_of(self.own, self.n_shared), strict=True):
            found[where] += 2 * ((own @ product[where]) * across[where]).sum(1) + (own @ local @ own).diagonal()
        return found


def slices_of(blocks: Sequence[Tensor], n_shared: int) -> list[slice]:
    """Where the parameters of each of ``blocks`` [L_b, L_b] stand."""
    ends = np.cumsum([n_shared, *(len(block) for block in blocks)]).tolist()
    return [slice(begin, end) for begin, end in pairwise(ends)]


def times(arrow: Arrow, columns: Tensor) -> Tensor:
    """The product of an arrow with ``columns`` [T, n]."""
    found, n = torch.zeros_like(columns), len(arrow.shared)
    found[:n] = arrow.shared @ columns[:n]
    for mixed, local, where in zip(arrow.mixed, arrow.local, slices_of(arrow.local, n), strict=True):
        found[:n] += mixed @ columns[where]
        found[where] = mixed.T @ columns[:n] + local @ columns[where]
    return found


def rescaled(arrow: Arrow, by: Tensor) -> Arrow:
    """The matrix of ``arrow`` with rows and columns times ``by`` [T]."""
    n = len(arrow.shared)
    parts = [by[where] for where in slices_of(arrow.local, n)]
    return arrow._replace(
        shared=arrow.shared * by[:n, None] * by[:n],
        mixed=tuple(matrix * by[:n, None] * part for matrix, part in zip(arrow.mixed, parts, strict=True)),
        local=tuple(matrix * part[:, None] * part for matrix, part in zip(arrow.local, parts, strict=True)),
    )


def emptied(arrow: Arrow) -> Arrow:
    """``arrow`` with zeros in the place of its numbers."""
    none = [tuple(torch.zeros_like(part) for part in parts) for parts in (arrow.mixed, arrow.local)]
    return arrow._replace(shared=torch.zeros_like(arrow.shared), mixed=none[0], local=none[1])


def shifted(arrow: Arrow, by: Tensor) -> Arrow:
    """``arrow`` with ``by`` [T] added to its diagonal."""
    n = len(arrow.shared)
    return add_diagonal(arrow, by[:n], [by[where] for where in slices_of(arrow.local, n)])


def inverse(arrow: Arrow) -> BlockInverse:
    """The inverse of a positive definite arrow."""
    own = tuple(inverse_of(local) for local in arrow.local)
    across = [block @ mixed.T for block, mixed in zip(own, arrow.mixed, strict=True)]
    reduced = arrow.shared.clone()
    for mixed, part in zip(arrow.mixed, across, strict=True):
        reduced = reduced - mixed @ part
    eye = torch.eye(len(reduced), dtype=reduced.dtype, device=reduced.device)
    return BlockInverse(own, torch.cat([eye, *(-part for part in across)]), inverse_of(reduced), len(reduced))


def lowest(arrow: Arrow, limit: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues [n] of an arrow below ``limit``, and the next where there is one; ascending; and vectors [T, n].

    ``arrow`` + 1 is positive definite. Lanczos on its inverse; how many there are Sylvester's law of inertia tells.
    """
    size = len(arrow.shared) + sum(len(local) for local in arrow.local)
    wanted = min(count_below(arrow, limit) + 1, size)
    if wanted < _DENSE_FROM * size:
        values, vectors = _lanczos(arrow, wanted)
        if int((values < limit).sum()) == wanted - 1:
            return values, vectors
    values, vectors = torch.linalg.eigh(times(arrow, torch.eye(size, dtype=arrow.shared.dtype)))
    return values[:wanted], vectors[:, :wanted]


def _lanczos(arrow: Arrow, wanted: int) -> tuple[Tensor, Tensor]:
    """The ``wanted`` smallest eigenvalues, ascending, and their vectors."""
    size = len(arrow.shared) + sum(len(local) for local in arrow.local)
    turned = inverse(shifted(arrow, torch.ones(size, dtype=arrow.shared.dtype)))

    def product(vector: np.ndarray) -> np.ndarray:
        return np.asarray(turned.times(torch.as_tensor(vector).reshape(-1, 1))[:, 0])

    start = np.random.default_rng(0).standard_normal(size)  # the same each time: so are the results
    _, vectors = eigsh(LinearOperator((size, size), product, dtype=float), wanted, which="LA", v0=start)
    basis = torch.linalg.qr(torch.as_tensor(vectors.copy()))[0]
    values, turn = torch.linalg.eigh(basis.T @ times(arrow, basis))
    return values, basis @ turn


def count_below(arrow: Arrow, limit: float) -> int:
    """How many eigenvalues of an arrow are below ``limit``: Haynsworth, Linear Algebra Appl. 1, 73 (1968)."""
    reduced, found = arrow.shared - limit * torch.eye(len(arrow.shared), dtype=arrow.shared.dtype), 0
    for mixed, local in zip(arrow.mixed, arrow.local, strict=True):
        values, vectors = torch.linalg.eigh(local)
        found += int((values < limit).sum())
        turned = mixed @ vectors
        reduced = reduced - (turned / (values - limit)) @ turned.T
    return found + int((torch.linalg.eigvalsh(reduced) < 0).sum())


def inverse_with(arrow: Arrow, values: Tensor, vectors: Tensor, instead: Tensor) -> BlockInverse:
    """The inverse of ``arrow`` with ``instead`` [n] > 0 in the place of its eigenvalues ``values`` [n].

    ``vectors`` [T, n]: their eigenvectors. The arrow may be singular in them: some of its diagonal is raised first,
    where they are largest, so that it is an arrow that can be inverted, which is then corrected (Woodbury).
    """
    if len(values) == 0:
        return inverse(arrow)
    _, pivots = qr(vectors.T.numpy(), mode="r", pivoting=True)
    chosen = torch.as_tensor(pivots[: len(values)].copy(), dtype=torch.long)
    raised = _diagonal(arrow)[chosen].clamp(min=1.0)
    base = inverse(shifted(arrow, torch.zeros(len(vectors), dtype=values.dtype).index_put((chosen,), raised)))
    picked = torch.zeros_like(vectors)
    picked[chosen, torch.arange(len(values))] = 1
    columns, weights = torch.cat([picked, vectors], dim=1), torch.cat([-raised, instead - values])
    across = base.times(columns)
    eye = torch.eye(len(weights), dtype=values.dtype)
    core = -torch.linalg.solve(eye + weights[:, None] * (columns.T @ across), torch.diag(weights))
    return base.plus(across, (core + core.T) / 2)


def _diagonal(arrow: Arrow) -> Tensor:
    return torch.cat([arrow.shared.diagonal(), *(local.diagonal() for local in arrow.local)])
