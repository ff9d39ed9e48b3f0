/* |F_latt|² relative to its peak, of every lane, and its derivatives. docs/physics.md §3.4. */
#ifndef NBTORCH_SHAPES_H
#define NBTORCH_SHAPES_H

#include "tile.h"

#define PI 3.14159265358979323846
#define GAUSS_WIDTH 0.63
#define TOPHAT_EDGE 0.3969

/* Square, one axis: f = U/V = sin(πNδ)/(N sin πδ), both divided by the factor that vanishes at a reflection.
 *
 * Nδ = m + r with m its nearest integer. Within the main lobe (m = 0) r/δ is N, exactly; elsewhere |δ| ≥ 1/(2N) and
 * nothing is small. So there is no series and no 0/0, in value or derivative. The sign (−1)^m is dropped: only f² and
 * f·f' are used. N = 1 gives f = 1, f' = 0, which is an axis left out. */
struct ratio {
    REAL u, v; /* f = u/v */
};

struct lobe {
    REAL u, v, u_slope, v_slope; /* f = u/v, and d/dδ of both */
    REAL main;                   /* 1 within the main lobe */
};

static inline struct ratio lobe_value(REAL d, REAL n, REAL inverse_n) {
    REAL x = n * d, m = NEAREST_REAL(x), r = x - m;
    REAL p = sinpi_over(r * r), s = sinpi_over(d * d);
    struct ratio l = {m == R(0) ? p : r * inverse_n * p, m == R(0) ? s : d * s};
    return l;
}

static inline struct lobe lobe_slopes(REAL d, REAL n, REAL inverse_n) {
    REAL x = n * d, m = NEAREST_REAL(x), r = x - m, rr = r * r, dd = d * d;
    REAL p = sinpi_over(rr), s = sinpi_over(dd), dp = sinpi_slope(rr), ds = sinpi_slope(dd);
    struct lobe l;
    l.main = m == R(0) ? R(1) : R(0);
    l.u = m == R(0) ? p : r * inverse_n * p;
    l.v = m == R(0) ? s : d * s;
    l.u_slope = m == R(0) ? n * r * dp : p + rr * dp;
    l.v_slope = m == R(0) ? d * ds : s + dd * ds;
    return l;
}

static void square_value(const struct plan *plan, struct tile *t, REAL weight, int begin, int end) {
    const REAL n0 = plan->n[0], n1 = plan->n[1], n2 = plan->n[2];
    const REAL i0 = plan->inverse_n[0], i1 = plan->inverse_n[1], i2 = plan->inverse_n[2];
    FOR_LANES(i, begin, end) {
        struct ratio x = lobe_value(t->offset[0][i], n0, i0);
        struct ratio y = lobe_value(t->offset[1][i], n1, i1);
        struct ratio z = lobe_value(t->offset[2][i], n2, i2);
        REAL f = t->amplitude[i] * (x.u * y.u * z.u) / (x.v * y.v * z.v);
        t->sum[i] += weight * (f * f);
    }
}

/* n_slope is intensity·dln(N f)/dN times N; not set where N's gradient is not wanted. */
static inline void square_slopes_of(const struct plan *plan, struct tile *t, int begin, int end, const int wants_shape) {
    const REAL n0 = plan->n[0], n1 = plan->n[1], n2 = plan->n[2];
    const REAL i0 = plan->inverse_n[0], i1 = plan->inverse_n[1], i2 = plan->inverse_n[2];
    const REAL two0 = plan->twice[0], two1 = plan->twice[1], two2 = plan->twice[2];
    FOR_LANES(i, begin, end) {
        REAL d0 = t->offset[0][i], d1 = t->offset[1][i], d2 = t->offset[2][i];
        struct lobe x = lobe_slopes(d0, n0, i0);
        struct lobe y = lobe_slopes(d1, n1, i1);
        struct lobe z = lobe_slopes(d2, n2, i2);
        REAL vxy = x.v * y.v, inverse_v = R(1) / (vxy * z.v);
        REAL iz = inverse_v * vxy, ix = inverse_v * (y.v * z.v), iy = inverse_v * (x.v * z.v);
        REAL f0 = x.u * ix, f1 = y.u * iy, f2 = z.u * iz;
        REAL f = t->amplitude[i], yz = f1 * f2, whole = f0 * yz * f * f;
        t->intensity[i] = whole * (f0 * yz);
        REAL others0 = whole * yz, others1 = whole * (f0 * f2), others2 = whole * (f0 * f1);
        t->slope[0][i] = two0 * others0 * (x.u_slope - f0 * x.v_slope) * ix;
        t->slope[1][i] = two1 * others1 * (y.u_slope - f1 * y.v_slope) * iy;
        t->slope[2][i] = two2 * others2 * (z.u_slope - f2 * z.v_slope) * iz;
        if (!wants_shape) continue;
        t->n_slope[0][i] = others0 * (x.main * x.u + d0 * x.u_slope) * ix;
        t->n_slope[1][i] = others1 * (y.main * y.u + d1 * y.u_slope) * iy;
        t->n_slope[2][i] = others2 * (z.main * z.u + d2 * z.u_slope) * iz;
    }
}

static void square_slopes(const struct plan *plan, struct tile *t, int begin, int end) {
    if (plan->wants_shape)
        square_slopes_of(plan, t, begin, end, 1);
    else
        square_slopes_of(plan, t, begin, end, 0);
}

/* The radial shapes see ρ² = δᵀ·metric·δ alone. */
static inline REAL radius_squared(const REAL *m, REAL a, REAL b, REAL c) {
    return a * (m[0] * a + R(2) * (m[3] * b + m[4] * c)) + b * (m[1] * b + R(2) * m[5] * c) + m[2] * c * c;
}

/* Each gives f² of ρ² and, as *slope, its derivative to ρ². */
static inline REAL gaussian(REAL u, REAL *slope) {
    REAL f2 = exponential(u * R(-2.0 / GAUSS_WIDTH));
    *slope = R(-2.0 / GAUSS_WIDTH) * f2;
    return f2;
}

static inline REAL tophat(REAL u, REAL *slope) {
    *slope = R(0);
    return u < R(TOPHAT_EDGE) ? R(1) : R(0);
}

/* A ball: 3(sin y/y − cos y)/y², y = π√u; a series within the first lobe, where the difference would cancel. */
static inline REAL ball(REAL u, REAL *slope) {
    REAL inner = u < R(1) ? u : R(1), outer = u < R(1) ? R(1) : u;
    REAL root = REAL_SQRT(outer), r = root - NEAREST_REAL(root), rr = r * r;
    REAL p = sinpi_over(rr), sine = r * p, cosine = (p + rr * sinpi_slope(rr)) * R(1 / PI);
    REAL inverse = R(1) / outer, sinc = sine * root * inverse * R(1 / PI);
    REAL far = R(3 / (PI * PI)) * (sinc - cosine) * inverse, far_slope = R(1.5) * (sinc - far) * inverse;
    REAL f = u < R(1) ? ball_series(inner) : far;
    *slope = R(2) * f * (u < R(1) ? ball_series_slope(inner) : far_slope);
    return f * f;
}

#define RADIAL_SHAPE(name)                                                                                         \
    static void name##_value(const struct plan *plan, struct tile *t, REAL weight, int begin, int end) {           \
        const REAL *m = plan->metric;                                                                              \
        FOR_LANES(i, begin, end) {                                                                                 \
            REAL unused, u = radius_squared(m, t->offset[0][i], t->offset[1][i], t->offset[2][i]);                 \
            REAL f = t->amplitude[i];                                                                              \
            t->sum[i] += weight * (f * f) * name(u, &unused);                                                      \
        }                                                                                                          \
    }                                                                                                              \
    /* n_slope[0] is the derivative to ρ². */                                                                      \
    static void name##_slopes(const struct plan *plan, struct tile *t, int begin, int end) {                       \
        const REAL *m = plan->metric;                                                                              \
        FOR_LANES(i, begin, end) {                                                                                 \
            REAL slope, a = t->offset[0][i], b = t->offset[1][i], c = t->offset[2][i], f = t->amplitude[i];        \
            t->intensity[i] = f * f * name(radius_squared(m, a, b, c), &slope);                                    \
            slope *= f * f;                                                                                        \
            t->n_slope[0][i] = slope;                                                                              \
            t->slope[0][i] = R(2) * slope * (m[0] * a + m[3] * b + m[4] * c);                                      \
            t->slope[1][i] = R(2) * slope * (m[3] * a + m[1] * b + m[5] * c);                                      \
            t->slope[2][i] = R(2) * slope * (m[4] * a + m[5] * b + m[2] * c);                                      \
        }                                                                                                          \
    }

RADIAL_SHAPE(ball)
RADIAL_SHAPE(gaussian)
RADIAL_SHAPE(tophat)

typedef void (*value_function)(const struct plan *, struct tile *, REAL, int, int);
typedef void (*slopes_function)(const struct plan *, struct tile *, int, int);
static const value_function VALUE_OF[] = {square_value, ball_value, gaussian_value, tophat_value};
static const slopes_function SLOPES_OF[] = {square_slopes, ball_slopes, gaussian_slopes, tophat_slopes};

#endif
