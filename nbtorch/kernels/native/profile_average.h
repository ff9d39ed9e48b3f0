/* The mean of a Gaussian over a uniform range of the spindle, and its slopes. docs/closed_form.md. */
#ifndef NBTORCH_PROFILE_AVERAGE_H
#define NBTORCH_PROFILE_AVERAGE_H

#include "profile_lanes.h"

#define QUADRATURE_BELOW 0.5 /* of the curvature: above it the error functions lose no digit */

/* (1 + 2x)·e^(x²)·erfc(x) for x ≥ 0 in Chebyshev polynomials of (x − 3.75)/(x + 3.75), computed at 50 digits; the
 * interval is that of Shepherd and Laframboise 1981. Worst relative error 7e-16. */
static const double ERFCX[25] = {
    1.1775789345674017,     -0.004590054580646478,   -0.08424913336651792,    0.05920993999819189,
    -0.026658668435305753,  0.009074997670705265,    -0.002413163540417608,   0.0004907758365258086,
    -6.916973302501207e-05, 4.13902798607301e-06,    7.74038306619849e-07,    -2.1886401049234397e-07,
    1.076499946567091e-08,  4.521959811218287e-09,   -7.754400208831351e-10,  -6.318088340886684e-11,
    2.86879501093067e-11,   1.9455868545777347e-13,  -9.65469674843344e-13,   3.25254814814874e-14,
    3.3478119482868056e-14, -1.864562880419313e-15,  -1.2507950530688648e-15, 7.418235256624044e-17,
    5.068148904796111e-17,
};

static inline V erfcx(V x) {
    V t = (x - 3.75) / (x + 3.75), one = all(0.0), two = all(0.0);
    for (int i = 24; i > 0; i--) {
        V next = ERFCX[i] + 2.0 * t * one - two;
        two = one, one = next;
    }
    return (ERFCX[0] + t * one - two) / (1.0 + 2.0 * x);
}

/* What the mean is, and its slopes in the three numbers of the exponent. */
struct average {
    V value, of_constant, of_slope, of_curvature;
};

/* Gauss and Legendre, 12 nodes: relative error below 1e-13 where the curvature is below ½ and the result matters. */
static inline struct average by_quadrature(V constant, V slope, V curvature) {
    static const double node[6] = {0.1252334085114689, 0.3678314989981802, 0.5873179542866175,
                                   0.7699026741943047, 0.9041172563704748, 0.9815606342467192};
    static const double weight[6] = {0.12457352290670134, 0.1167462682691773,  0.10158371336153287,
                                     0.08003916427167321, 0.05346966299765953, 0.023587668193255706};
    V zero = all(0.0), first = zero, second = zero, sum = zero;
    for (int i = 0; i < 6; i++) {
        double t = node[i];
        V even = -constant - curvature * (t * t), odd = slope * t;
        V after = weight[i] * exp_lanes(even - odd), before = weight[i] * exp_lanes(even + odd);
        sum += after + before;
        first += t * (after - before);
        second += t * t * (after + before);
    }
    return (struct average){sum, -sum, -first, -second};
}

/* In error functions: E·erfcx is what is left of each end, and the moments follow by integrating by parts. */
static inline struct average by_error_functions(V constant, V slope, V curvature) {
    V width = root(curvature), inverse = 1.0 / curvature, size = magnitude(slope), zero = all(0.0);
    V middle = 0.5 * size / width, low = middle - width, high = middle + width;
    V near = exp_lanes(smaller(size - constant - curvature, zero)), far = exp_lanes(-size - constant - curvature);
    V peak = exp_lanes(smaller(middle * middle - constant, zero));
    V to_near = near * erfcx(magnitude(low));
    V sum = where(low < zero, 2.0 * peak - to_near, to_near) - far * erfcx(high);
    V value = 0.44311346272637900682 / width * sum; /* √π/4 */
    V first = 0.5 * inverse * (0.5 * (near - far) - size * value); /* the slope's sign is put back below */
    V second = 0.5 * inverse * (value - 0.5 * (near + far) - size * first);
    return (struct average){value, -value, where(slope < zero, first, -first), -second};
}

/* Mean over t in −1 … 1 of exp(−constant − slope·t − curvature·t²), for an exponent that is never positive. */
static inline struct average uniform_average(V constant, V slope, V curvature) {
    V limit = all(QUADRATURE_BELOW);
    Mask flat = curvature < limit;
    if (!any_lane(flat)) return by_error_functions(constant, slope, curvature);
    V zero = all(0.0);
    struct average low = by_quadrature(constant, where(flat, slope, zero), where(flat, curvature, zero));
    if (!any_lane(~flat)) return low;
    struct average high = by_error_functions(constant, where(flat, zero, slope), where(flat, all(1.0), curvature));
    return (struct average){where(flat, low.value, high.value), where(flat, low.of_constant, high.of_constant),
                            where(flat, low.of_slope, high.of_slope), where(flat, low.of_curvature, high.of_curvature)};
}

/* A reflection's mean over the piece, from δ, Σ and g: value, and dL/d of each for dL/d(value) = 1. Less than `cut` of
 * the peak is 0: the one rule for what is left out, which looks at no other sample. */
struct reflection_average {
    V value;
    V3 of_offset, of_sweep;
    M3 of_covariance;
};

static inline void average_reflection(const V3 offset, const M3 total, const V3 sweep, double span, double cut, int slopes,
                                      struct reflection_average *out) {
    M3 inverse;
    V3 pull, across;
    V norm = 1.0 / root(invert(total, inverse));
    times(inverse, offset, pull);
    V half = 0.5 * dot(offset, pull);
    clear_vector(out->of_sweep);
    if (span == 0.0) {
        V mean = exp_lanes(-half), value = where(mean >= all(cut), mean * norm, all(0.0));
        out->value = value;
        if (!slopes) return;
        EACH(i) out->of_offset[i] = -value * pull[i];
        EVERY(i, j) out->of_covariance[i][j] = 0.5 * value * (pull[i] * pull[j] - inverse[i][j]);
        return;
    }
    times(inverse, sweep, across);
    double by = 0.5 * span, square = 0.125 * span * span;
    struct average mean = uniform_average(half, by * dot(sweep, pull), square * dot(sweep, across));
    norm = where(mean.value >= all(cut), norm, all(0.0));
    out->value = norm * mean.value;
    if (!slopes) return;
    V c = norm * mean.of_constant, b = norm * mean.of_slope * by, a = norm * mean.of_curvature * square;
    EACH(i) out->of_offset[i] = c * pull[i] + b * across[i];
    EACH(i) out->of_sweep[i] = b * pull[i] + 2.0 * a * across[i];
    EVERY(i, j)
    out->of_covariance[i][j] = -0.5 * (c * pull[i] * pull[j] + b * (across[i] * pull[j] + pull[i] * across[j]) +
                                       2.0 * a * across[i] * across[j] + out->value * inverse[i][j]);
}

#endif
