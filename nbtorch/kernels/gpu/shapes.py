"""|F_latt|² relative to its peak and its derivatives, in Triton; docs/physics.md §3.4.

Numbers are of the kernel's REAL type. A shape is a compile-time constant: SQUARE, ROUND, GAUSS or TOPHAT.
"""

# mypy: ignore-errors
# Triton compiles these functions from their source: types are those of blocks of numbers.
from __future__ import annotations

import triton
import triton.language as tl

SQUARE = tl.constexpr(0)
ROUND = tl.constexpr(1)
GAUSS = tl.constexpr(2)
TOPHAT = tl.constexpr(3)
PI = tl.constexpr(3.14159265358979323846)
GAUSS_WIDTH = tl.constexpr(0.63)
TOPHAT_EDGE = tl.constexpr(0.3969)
# sin(πx)/x = Σ c_k·(x²)^k: with |x| ≤ ½ the twelfth term is under 1e-17
SINPI = tl.constexpr((
    3.141592653589793, -5.167712780049969, 2.550164039877345, -0.5992645293207919,
    0.08214588661112819, -0.007370430945714348, 0.00046630280576761234, -2.1915353447830204e-05,
    7.952054001475508e-07, -2.2948428997269856e-08, 5.392664662608125e-10, -1.0518471716932054e-11,
))  # fmt: skip
# 3(sin y/y − cos y)/y² = Σ c_k·(y²)^k: with y² ≤ 4 the twelfth term is under 1e-16
SINC3 = tl.constexpr((
    1.0, -0.1, 0.0035714285714285713, -6.613756613756614e-05, 7.515632515632515e-07, -5.7812557812557815e-09,
    3.2118087673643227e-11, -1.34949948208585e-13, 4.439143033177138e-16, -1.1743764638034756e-18,
    2.5529923126162516e-21,
))  # fmt: skip


@triton.jit
def sinpi_over(u):
    """sin(πx)/x of u = x², |x| ≤ ½."""
    total = u * 0.0 + SINPI[11]
    for k in tl.static_range(11):
        total = total * u + SINPI[10 - k]
    return total


@triton.jit
def sinpi_slope(u):
    """(1/x)·d/dx of sin(πx)/x, of u = x²."""
    total = u * 0.0 + 22.0 * SINPI[11]
    for k in tl.static_range(10):
        total = total * u + 2.0 * (10 - k) * SINPI[10 - k]
    return total


@triton.jit
def nearest_integer(x):
    """The nearest integer; of a half either."""
    return tl.floor(x + 0.5)


@triton.jit
def lobe(d, n):
    """One axis of the square: f = u/v = sin(πnδ)/(n sin πδ), with slopes of u and v to δ, and 1 in the main lobe.

    Both are divided by the factor that vanishes at a reflection, so there is no 0/0 in value or derivative.
    """
    x = n * d
    m = nearest_integer(x)
    r = x - m
    p, s = sinpi_over(r * r), sinpi_over(d * d)
    dp, ds = sinpi_slope(r * r), sinpi_slope(d * d)
    inside = m == 0
    u = tl.where(inside, p, r * p / n)
    v = tl.where(inside, s, d * s)
    u_slope = tl.where(inside, n * r * dp, p + r * r * dp)
    v_slope = tl.where(inside, d * ds, s + d * d * ds)
    return u, v, u_slope, v_slope, tl.where(inside, 1.0, 0.0).to(d.dtype)


@triton.jit
def lobe_squared(d, n):
    """f² of one axis of the square."""
    x = n * d
    m = nearest_integer(x)
    r = x - m
    p, s = sinpi_over(r * r), sinpi_over(d * d)
    f = tl.where(m == 0, p, r * p / n) / tl.where(m == 0, s, d * s)
    return f * f


@triton.jit
def radius_squared(a, b, c, m00, m11, m22, m01, m02, m12):
    """ρ² of δ = (a, b, c) under the symmetric part of the metric."""
    return a * (m00 * a + 2.0 * (m01 * b + m02 * c)) + b * (m11 * b + 2.0 * m12 * c) + m22 * c * c


@triton.jit
def ball(u):
    """f² of a ball at ρ² = u and its derivative to u; f = sinc3(π√u). Signs that square away are dropped."""
    y2 = PI * PI * u
    near = y2 < 4.0
    w = tl.where(near, y2, 0.0)
    series = w * 0.0 + SINC3[10]
    slope = w * 0.0 + 10.0 * SINC3[10]
    for k in tl.static_range(10):
        series = series * w + SINC3[9 - k]
    for k in tl.static_range(9):
        slope = slope * w + (9 - k) * SINC3[9 - k]
    outer = tl.where(near, 1.0, u)
    root = tl.sqrt(outer)
    r = root - nearest_integer(root)
    rr = r * r
    p = sinpi_over(rr)
    sinc = r * p * root / outer / PI
    cosine = (p + rr * sinpi_slope(rr)) / PI
    far = 3.0 / (PI * PI) * (sinc - cosine) / outer
    far_slope = 1.5 * (sinc - far) / outer
    f = tl.where(near, series, far)
    f_slope = tl.where(near, slope * (PI * PI), far_slope)
    return f * f, 2.0 * f * f_slope


@triton.jit
def radial(u, SHAPE: tl.constexpr):
    """f² of a radial shape at ρ² = u, and its derivative to u."""
    if SHAPE == ROUND:
        f2, slope = ball(u)
    elif SHAPE == GAUSS:
        f2 = tl.exp(u * (-2.0 / GAUSS_WIDTH))
        slope = f2 * (-2.0 / GAUSS_WIDTH)
    else:
        f2 = tl.where(u < TOPHAT_EDGE, 1.0, 0.0).to(u.dtype)
        slope = u * 0.0
    return f2, slope
