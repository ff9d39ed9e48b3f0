"""The lattice sum in Triton: value, gradient, and Jacobian columns of a block of samples.

A program takes one block of pairs (pixel, source) and sums over all orientations. Sums are in double and in a fixed
order, and no two programs add to one number: two runs give the same bits.
"""

# mypy: ignore-errors
# Triton compiles these functions from their source: types are those of blocks of numbers.
from __future__ import annotations

import triton
import triton.language as tl

from nbtorch.kernels.gpu.amplitudes import TRICUBIC
from nbtorch.kernels.gpu.shapes import SQUARE
from nbtorch.kernels.gpu.terms import (
    at_orientation,
    axes_of,
    intensity,
    kept_within,
    limits_of,
    rows,
    scattering,
    slopes,
    symmetric,
)


@triton.jit
def value_kernel(
    diffracted, incident, wavelength, basis, n_cells, metric, table, weight, value,
    pairs, sources, orientations, numbers,
    SHAPE: tl.constexpr, KIND: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """value [P, S]: Σ_k weight_k·|F·f|², relative to the peak."""
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pair < pairs
    pixel, source = pair // sources, pair % sources
    x, y, z = scattering(diffracted, incident, wavelength, pixel, source, live)
    n, m = axes_of(n_cells, REAL), symmetric(metric, REAL)
    first, count, default_F, dmin = limits_of(numbers)
    total = tl.zeros((BLOCK,), tl.float64)
    for k in range(orientations):
        b = rows(basis, k)
        d0, d1, d2, F, _, _, _ = at_orientation(b, x, y, z, table, first, count, default_F, REAL, KIND)
        total += tl.load(weight + k) * intensity(d0, d1, d2, F, n, m, SHAPE).to(tl.float64)
    tl.store(value + pair, total * kept_within(x, y, z, dmin), mask=live)


@triton.jit
def gradient_kernel(
    diffracted, incident, wavelength, basis, n_cells, metric, table, weight, grad,
    along_q, of_orientation, of_shape,
    start, pairs, sources, orientations, numbers,
    SHAPE: tl.constexpr, KIND: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From dL/dvalue ``grad`` [P, S], relative to the peak: along_q [P·S, 3] = dL/dq, and of each program's block alone
    of_orientation [programs, K, 10] = dL/d(basis, weight) and of_shape [programs, 7] = the shape's and the peak's."""
    program = tl.program_id(0).to(tl.int64)
    pair = start + program * BLOCK + tl.arange(0, BLOCK)
    live = pair < pairs
    pixel, source = pair // sources, pair % sources
    x, y, z = scattering(diffracted, incident, wavelength, pixel, source, live)
    n, m = axes_of(n_cells, REAL), symmetric(metric, REAL)
    first, count, default_F, dmin = limits_of(numbers)
    given = tl.load(grad + pair, mask=live, other=0.0) * kept_within(x, y, z, dmin)
    zero = tl.zeros((BLOCK,), tl.float64)
    qx, qy, qz = zero, zero, zero
    e0, e1, e2, e3, e4, e5 = zero, zero, zero, zero, zero, zero
    whole = zero
    for k in range(orientations):
        b = rows(basis, k)
        d0, d1, d2, F, fh, fk, fl = at_orientation(b, x, y, z, table, first, count, default_F, REAL, KIND)
        value, s0, s1, s2, t0, t1, t2 = slopes(d0, d1, d2, F, n, m, SHAPE)
        if KIND == TRICUBIC:  # d|F·f|²/dF = 2·|F·f|²/F, written without the quotient
            per_F = 2 * intensity(d0, d1, d2, F * 0 + 1, n, m, SHAPE) * F
            s0, s1, s2 = s0 + per_F * fh, s1 + per_F * fk, s2 + per_F * fl
        g = given * tl.load(weight + k)
        h0, h1, h2 = g * s0.to(tl.float64), g * s1.to(tl.float64), g * s2.to(tl.float64)
        qx += h0 * b[0] + h1 * b[3] + h2 * b[6]
        qy += h0 * b[1] + h1 * b[4] + h2 * b[7]
        qz += h0 * b[2] + h1 * b[5] + h2 * b[8]
        at = of_orientation + (program * orientations + k) * 10
        tl.store(at, tl.sum(h0 * x))
        tl.store(at + 1, tl.sum(h0 * y))
        tl.store(at + 2, tl.sum(h0 * z))
        tl.store(at + 3, tl.sum(h1 * x))
        tl.store(at + 4, tl.sum(h1 * y))
        tl.store(at + 5, tl.sum(h1 * z))
        tl.store(at + 6, tl.sum(h2 * x))
        tl.store(at + 7, tl.sum(h2 * y))
        tl.store(at + 8, tl.sum(h2 * z))
        tl.store(at + 9, tl.sum(given * value.to(tl.float64)))
        whole += g * value.to(tl.float64)
        if SHAPE == SQUARE:
            e0, e1, e2 = e0 + g * t0.to(tl.float64), e1 + g * t1.to(tl.float64), e2 + g * t2.to(tl.float64)
        else:
            r = g * t0.to(tl.float64)
            o0, o1, o2 = d0.to(tl.float64), d1.to(tl.float64), d2.to(tl.float64)
            e0, e1, e2 = e0 + r * o0 * o0, e1 + r * o1 * o1, e2 + r * o2 * o2
            e3, e4, e5 = e3 + r * o0 * o1, e4 + r * o0 * o2, e5 + r * o1 * o2
    tl.store(along_q + 3 * pair, qx, mask=live)
    tl.store(along_q + 3 * pair + 1, qy, mask=live)
    tl.store(along_q + 3 * pair + 2, qz, mask=live)
    at = of_shape + program * 7
    tl.store(at, tl.sum(e0))
    tl.store(at + 1, tl.sum(e1))
    tl.store(at + 2, tl.sum(e2))
    tl.store(at + 3, tl.sum(e3))
    tl.store(at + 4, tl.sum(e4))
    tl.store(at + 5, tl.sum(e5))
    tl.store(at + 6, tl.sum(whole))


@triton.jit
def moved_index(dot_basis, k, row: tl.constexpr, t, alive, orientations, b, x, y, z, qx, qy, qz):
    """Tangents [BLOCK, T] of one fractional index: of its row of the basis, and of q."""
    at = dot_basis + (t * orientations + k) * 9 + 3 * row
    b0 = tl.load(at, mask=alive, other=0.0)[None, :]
    b1 = tl.load(at + 1, mask=alive, other=0.0)[None, :]
    b2 = tl.load(at + 2, mask=alive, other=0.0)[None, :]
    of_basis = b0 * x[:, None] + b1 * y[:, None] + b2 * z[:, None]
    return of_basis + b[3 * row] * qx + b[3 * row + 1] * qy + b[3 * row + 2] * qz


@triton.jit
def moved_q(along, axis: tl.constexpr, t, alive, pixel, source, mask, pixels, sources):
    """Tangents [BLOCK, T] of one component of diffracted − incident."""
    rays = tl.load(along[0] + 3 * (t[None, :] * pixels + pixel[:, None]) + axis, mask=mask, other=0.0)
    return rays - tl.load(along[1] + 3 * (t[None, :] * sources + source[:, None]) + axis, mask=mask, other=0.0)


@triton.jit
def shape_tangent(dots, size: tl.constexpr, one: tl.constexpr, other: tl.constexpr, t, alive):
    """The sum [1, T] of two of the ``size`` numbers of each tangent."""
    first = tl.load(dots + t * size + one, mask=alive, other=0.0)
    return (first + tl.load(dots + t * size + other, mask=alive, other=0.0))[None, :]


@triton.jit
def tangent_kernel(
    diffracted, incident, wavelength, basis, n_cells, metric, table, weight,
    dot_diffracted, dot_incident, dot_wavelength, dot_basis, dot_ln_n, dot_metric, dot_weight,
    tangent, pairs, pixels, sources, orientations, tangents,
    numbers,
    SHAPE: tl.constexpr, KIND: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """tangent [T, P, S] of the value relative to the peak. ``dot_ln_n`` is dN/N, 0 on an axis that is left out."""
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pair < pairs
    t = tl.program_id(1).to(tl.int64) * T + tl.arange(0, T)
    alive = t < tangents
    pixel, source = pair // sources, pair % sources
    x, y, z = scattering(diffracted, incident, wavelength, pixel, source, live)
    n, m = axes_of(n_cells, REAL), symmetric(metric, REAL)
    first, count, default_F, dmin = limits_of(numbers)
    lam = tl.load(wavelength + source, mask=live, other=1.0)[:, None]
    mask = live[:, None] & alive[None, :]
    ratio = tl.load(dot_wavelength + t[None, :] * sources + source[:, None], mask=mask, other=0.0) / lam
    along = dot_diffracted, dot_incident
    qx = moved_q(along, 0, t, alive, pixel, source, mask, pixels, sources) / lam - x[:, None] * ratio
    qy = moved_q(along, 1, t, alive, pixel, source, mask, pixels, sources) / lam - y[:, None] * ratio
    qz = moved_q(along, 2, t, alive, pixel, source, mask, pixels, sources) / lam - z[:, None] * ratio
    total = tl.zeros((BLOCK, T), tl.float64)
    for k in range(orientations):
        b = rows(basis, k)
        d0, d1, d2, F, fh, fk, fl = at_orientation(b, x, y, z, table, first, count, default_F, REAL, KIND)
        value, s0, s1, s2, t0, t1, t2 = slopes(d0, d1, d2, F, n, m, SHAPE)
        if KIND == TRICUBIC:
            per_F = 2 * intensity(d0, d1, d2, F * 0 + 1, n, m, SHAPE) * F
            s0, s1, s2 = s0 + per_F * fh, s1 + per_F * fk, s2 + per_F * fl
        h0 = moved_index(dot_basis, k, 0, t, alive, orientations, b, x, y, z, qx, qy, qz)
        h1 = moved_index(dot_basis, k, 1, t, alive, orientations, b, x, y, z, qx, qy, qz)
        h2 = moved_index(dot_basis, k, 2, t, alive, orientations, b, x, y, z, qx, qy, qz)
        moved = s0.to(tl.float64)[:, None] * h0 + s1.to(tl.float64)[:, None] * h1 + s2.to(tl.float64)[:, None] * h2
        if SHAPE == SQUARE:
            moved += t0.to(tl.float64)[:, None] * shape_tangent(dot_ln_n, 3, 0, 0, t, alive)
            moved += t1.to(tl.float64)[:, None] * shape_tangent(dot_ln_n, 3, 1, 1, t, alive)
            moved += t2.to(tl.float64)[:, None] * shape_tangent(dot_ln_n, 3, 2, 2, t, alive)
        else:
            r, o0, o1, o2 = t0.to(tl.float64), d0.to(tl.float64), d1.to(tl.float64), d2.to(tl.float64)
            moved += (r * o0 * o0)[:, None] * shape_tangent(dot_metric, 9, 0, 0, t, alive) * 0.5
            moved += (r * o1 * o1)[:, None] * shape_tangent(dot_metric, 9, 4, 4, t, alive) * 0.5
            moved += (r * o2 * o2)[:, None] * shape_tangent(dot_metric, 9, 8, 8, t, alive) * 0.5
            moved += (r * o0 * o1)[:, None] * shape_tangent(dot_metric, 9, 1, 3, t, alive)
            moved += (r * o0 * o2)[:, None] * shape_tangent(dot_metric, 9, 2, 6, t, alive)
            moved += (r * o1 * o2)[:, None] * shape_tangent(dot_metric, 9, 5, 7, t, alive)
        of_weight = tl.load(dot_weight + t * orientations + k, mask=alive, other=0.0)[None, :]
        total += tl.load(weight + k) * moved + of_weight * value.to(tl.float64)[:, None]
    kept = kept_within(x, y, z, dmin)[:, None]
    tl.store(tangent + t[None, :] * pairs + pair[:, None], total * kept, mask=mask)
