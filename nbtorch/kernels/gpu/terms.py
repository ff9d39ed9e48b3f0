"""One orientation of a block of samples, in Triton: δ, F, |F·f|² and its derivatives."""

# mypy: ignore-errors
# Triton compiles these functions from their source: types are those of blocks of numbers.
from __future__ import annotations

import triton
import triton.language as tl

from nbtorch.kernels.gpu.amplitudes import amplitude, nearest_reflection
from nbtorch.kernels.gpu.shapes import SQUARE, lobe, lobe_squared, radial, radius_squared


@triton.jit
def component(diffracted, incident, axis: tl.constexpr, pixel, source, live):
    """One component of diffracted − incident."""
    ray = tl.load(diffracted + 3 * pixel + axis, mask=live, other=0.0)
    return ray - tl.load(incident + 3 * source + axis, mask=live, other=0.0)


@triton.jit
def scattering(diffracted, incident, wavelength, pixel, source, live):
    """q of pairs of a pixel and a source, in double: an index near 100 must keep the digits of its fraction."""
    inverse = 1.0 / tl.load(wavelength + source, mask=live, other=1.0)
    x = component(diffracted, incident, 0, pixel, source, live)
    y = component(diffracted, incident, 1, pixel, source, live)
    z = component(diffracted, incident, 2, pixel, source, live)
    return x * inverse, y * inverse, z * inverse


@triton.jit
def rows(basis, k):
    """The nine numbers of orientation k."""
    b = basis + 9 * k
    first = tl.load(b), tl.load(b + 1), tl.load(b + 2)
    second = tl.load(b + 3), tl.load(b + 4), tl.load(b + 5)
    return first[0], first[1], first[2], second[0], second[1], second[2], tl.load(b + 6), tl.load(b + 7), tl.load(b + 8)


@triton.jit
def indices(b, x, y, z):
    """Fractional indices of q = (x, y, z) under the rows b."""
    return b[0] * x + b[1] * y + b[2] * z, b[3] * x + b[4] * y + b[5] * z, b[6] * x + b[7] * y + b[8] * z


@triton.jit
def limits_of(numbers):
    """First index and extent of the table, default F and dmin, from eight doubles: plain numbers become float32."""
    first = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    count = tl.load(numbers + 3), tl.load(numbers + 4), tl.load(numbers + 5)
    return first, count, tl.load(numbers + 6), tl.load(numbers + 7)


@triton.jit
def axes_of(n_cells, REAL: tl.constexpr):
    """N of each axis as the square has it: at least 1, since an axis with N ≤ 1 is left out."""
    n0, n1, n2 = tl.load(n_cells), tl.load(n_cells + 1), tl.load(n_cells + 2)
    return tl.maximum(n0, 1.0).to(REAL), tl.maximum(n1, 1.0).to(REAL), tl.maximum(n2, 1.0).to(REAL)


@triton.jit
def symmetric(metric, REAL: tl.constexpr):
    """The symmetric part of the metric: 00, 11, 22, 01, 02, 12."""
    m01 = 0.5 * (tl.load(metric + 1) + tl.load(metric + 3))
    m02 = 0.5 * (tl.load(metric + 2) + tl.load(metric + 6))
    m12 = 0.5 * (tl.load(metric + 5) + tl.load(metric + 7))
    diagonal = tl.load(metric), tl.load(metric + 4), tl.load(metric + 8)
    return diagonal[0].to(REAL), diagonal[1].to(REAL), diagonal[2].to(REAL), m01.to(REAL), m02.to(REAL), m12.to(REAL)


@triton.jit
def intensity(a, b, c, F, n, m, SHAPE: tl.constexpr):
    """|F·f|² at δ = (a, b, c)."""
    if SHAPE == SQUARE:
        f2 = lobe_squared(a, n[0]) * lobe_squared(b, n[1]) * lobe_squared(c, n[2])
    else:
        f2, _ = radial(radius_squared(a, b, c, m[0], m[1], m[2], m[3], m[4], m[5]), SHAPE)
    return F * F * f2


@triton.jit
def slopes(a, b, c, F, n, m, SHAPE: tl.constexpr):
    """|F·f|², its derivatives to δ, and those of the shape: to ln N/2 of each axis (square) or to ρ² (thrice)."""
    if SHAPE == SQUARE:
        u0, v0, du0, dv0, main0 = lobe(a, n[0])
        u1, v1, du1, dv1, main1 = lobe(b, n[1])
        u2, v2, du2, dv2, main2 = lobe(c, n[2])
        f0, f1, f2 = u0 / v0, u1 / v1, u2 / v2
        whole = F * F * f0 * f1 * f2
        value = whole * f0 * f1 * f2
        # an axis left out (N ≤ 1) has f = 1 whatever δ is; its slope is 0 up to rounding, and here exactly
        g0, g1, g2 = whole * f1 * f2, whole * f0 * f2, whole * f0 * f1
        s0 = tl.where(n[0] > 1, 2 * g0 * (du0 - f0 * dv0) / v0, 0.0)
        s1 = tl.where(n[1] > 1, 2 * g1 * (du1 - f1 * dv1) / v1, 0.0)
        s2 = tl.where(n[2] > 1, 2 * g2 * (du2 - f2 * dv2) / v2, 0.0)
        t0 = g0 * (main0 * u0 + a * du0) / v0
        t1 = g1 * (main1 * u1 + b * du1) / v1
        t2 = g2 * (main2 * u2 + c * du2) / v2
    else:
        g, slope = radial(radius_squared(a, b, c, m[0], m[1], m[2], m[3], m[4], m[5]), SHAPE)
        value = F * F * g
        t0 = F * F * slope
        t1, t2 = t0, t0
        s0 = 2 * t0 * (m[0] * a + m[3] * b + m[4] * c)
        s1 = 2 * t0 * (m[3] * a + m[1] * b + m[5] * c)
        s2 = 2 * t0 * (m[4] * a + m[5] * b + m[2] * c)
    return value, s0, s1, s2, t0, t1, t2


@triton.jit
def at_orientation(b, x, y, z, table, first, count, default_F, REAL: tl.constexpr, KIND: tl.constexpr):
    """δ (REAL), F and its slopes (REAL) of q under the rows b. Indices are differenced here alone, in double."""
    h, k, l = indices(b, x, y, z)  # noqa: E741
    h0, k0, l0 = nearest_reflection(h), nearest_reflection(k), nearest_reflection(l)
    F, fh, fk, fl = amplitude(table, h, k, l, h0, k0, l0, first, count, default_F, KIND)
    return (h - h0).to(REAL), (k - k0).to(REAL), (l - l0).to(REAL), F.to(REAL), fh.to(REAL), fk.to(REAL), fl.to(REAL)


@triton.jit
def kept_within(x, y, z, dmin):
    """1 where a sample counts, 0 where dmin culls it. nanoBragg: out when dmin > 1/|q|."""
    return tl.where(dmin * tl.sqrt(x * x + y * y + z * z) <= 1.0, 1.0, 0.0)
