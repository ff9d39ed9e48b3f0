"""F_cell at the samples of a block, in Triton: the nearest reflection, or 4-point Lagrange in three axes."""

# mypy: ignore-errors
# Triton compiles these functions from their source: types are those of blocks of numbers.
from __future__ import annotations

import triton
import triton.language as tl

NO_TABLE = tl.constexpr(0)
NEAREST = tl.constexpr(1)
TRICUBIC = tl.constexpr(2)


@triton.jit
def nearest_reflection(h):
    """nanoBragg: the nearest index is ceil(x − ½), not round."""
    return tl.ceil(h - 0.5)


@triton.jit
def position(x, y, z, first, count):
    """Where indices lie in the flattened table (64-bit), and whether they lie in it."""
    i, j, k = x - first[0], y - first[1], z - first[2]
    inside = (i >= 0) & (i < count[0]) & (j >= 0) & (j < count[1]) & (k >= 0) & (k < count[2])
    flat = (tl.where(inside, i, 0.0) * count[1] + tl.where(inside, j, 0.0)) * count[2] + tl.where(inside, k, 0.0)
    return flat.to(tl.int64), inside


@triton.jit
def nearest_amplitude(table, x, y, z, first, count, default_F):
    """F of the reflections (x, y, z); default_F outside the table."""
    flat, inside = position(x, y, z, first, count)
    return tl.where(inside, tl.load(table + flat), default_F)


@triton.jit
def lagrange(x, point: tl.constexpr):
    """The weight of one of the points −1, 0, 1, 2 at x in [0, 1), and its derivative."""
    if point == 0:
        weight, slope = -x * (x - 1) * (x - 2) / 6, -(3 * x * x - 6 * x + 2) / 6
    elif point == 1:
        weight, slope = (x + 1) * (x - 1) * (x - 2) / 2, (3 * x * x - 4 * x - 1) / 2
    elif point == 2:
        weight, slope = -(x + 1) * x * (x - 2) / 2, -(3 * x * x - 2 * x - 2) / 2
    else:
        weight, slope = (x + 1) * x * (x - 1) / 6, (3 * x * x - 1) / 6
    return weight, slope


@triton.jit
def lagrange_at(x, point):
    """The same for a point that is known when the kernel runs."""
    w0, s0 = lagrange(x, 0)
    w1, s1 = lagrange(x, 1)
    w2, s2 = lagrange(x, 2)
    w3, s3 = lagrange(x, 3)
    weight = tl.where(point < 2, tl.where(point == 0, w0, w1), tl.where(point == 2, w2, w3))
    return weight, tl.where(point < 2, tl.where(point == 0, s0, s1), tl.where(point == 2, s2, s3))


@triton.jit
def tricubic(table, h, k, l, first, count):  # noqa: E741
    """F interpolated at fractional indices, its slopes to them, and whether the 4×4×4 neighbourhood is in the table."""
    x, y, z = tl.floor(h), tl.floor(k), tl.floor(l)
    u, v, w = h - x, k - y, l - z
    _, low = position(x - 1, y - 1, z - 1, first, count)
    _, high = position(x + 2, y + 2, z + 2, first, count)
    inside = low & high
    base, _ = position(x, y, z, first, count)
    stride_h, stride_k = (count[1] * count[2]).to(tl.int64), count[2].to(tl.int64)
    total, slope_h, slope_k, slope_l = h * 0.0, h * 0.0, h * 0.0, h * 0.0
    for corner in range(16):  # not unrolled: 64 loads at once take more registers than a card has
        i, j = corner // 4, corner % 4
        wi, si = lagrange_at(u, i)
        wj, sj = lagrange_at(v, j)
        row, row_slope = h * 0.0, h * 0.0
        for n in tl.static_range(4):
            wn, sn = lagrange(w, n)
            at = base + (i - 1) * stride_h + (j - 1) * stride_k + (n - 1)
            value = tl.load(table + tl.where(inside, at, 0))
            row += wn * value
            row_slope += sn * value
        total += wi * wj * row
        slope_h += si * wj * row
        slope_k += wi * sj * row
        slope_l += wi * wj * row_slope
    return total, slope_h, slope_k, slope_l, inside


@triton.jit
def amplitude(table, h, k, l, x, y, z, first, count, default_F, KIND: tl.constexpr):  # noqa: E741
    """F at fractional (h, k, l) with nearest reflection (x, y, z), and its slopes to h, k, l."""
    flat = h * 0.0
    slope_h, slope_k, slope_l = flat, flat, flat
    if KIND == NO_TABLE:
        value = flat + default_F
    else:
        value = nearest_amplitude(table, x, y, z, first, count, default_F)
        if KIND == TRICUBIC:
            smooth, sh, sk, sl, inside = tricubic(table, h, k, l, first, count)
            value = tl.where(inside, smooth, value)
            slope_h, slope_k, slope_l = tl.where(inside, sh, 0.0), tl.where(inside, sk, 0.0), tl.where(inside, sl, 0.0)
    return value, slope_h, slope_k, slope_l
