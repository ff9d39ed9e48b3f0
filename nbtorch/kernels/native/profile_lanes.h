/* Several reflections at a time: a vector of doubles, its functions, and small matrices of such vectors.
 *
 * GCC's and Clang's vector types: what is written as for one number is done for every lane, on any instruction set.
 */
#ifndef NBTORCH_PROFILE_LANES_H
#define NBTORCH_PROFILE_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH 8
#elif defined(__AVX2__)
#define WIDTH 4
#else
#define WIDTH 2
#endif

typedef double V __attribute__((vector_size(8 * WIDTH)));
typedef int64_t Mask __attribute__((vector_size(8 * WIDTH)));
typedef V V3[3];
typedef V M3[3][3];

#define EACH(i) for (int i = 0; i < 3; i++)
#define EVERY(i, j) EACH(i) EACH(j)

static inline V all(double x) { return (V){0} + x; }
static inline Mask lane_number(void) {
    Mask m;
    for (int i = 0; i < WIDTH; i++) m[i] = i;
    return m;
}
static inline V where(Mask m, V a, V b) { return (V)((m & (Mask)a) | (~m & (Mask)b)); }
static inline V smaller(V a, V b) { return where(a < b, a, b); }
static inline V larger(V a, V b) { return where(a > b, a, b); }
static inline V magnitude(V x) { return (V)((Mask)x & INT64_MAX); }

static inline int any_lane(Mask m) {
    int64_t found = 0;
    for (int i = 0; i < WIDTH; i++) found |= m[i];
    return found != 0;
}

static inline double sum_lanes(V x) {
    double sum = 0.0;
    for (int i = 0; i < WIDTH; i++) sum += x[i];
    return sum;
}

static inline V root(V x) {
    V r;
    for (int i = 0; i < WIDTH; i++) r[i] = sqrt(x[i]);
    return r;
}

/* e^x and e^x − 1 for x ≤ 700: 2^n·e^r with |r| ≤ ½ ln 2, its series to the 13th power; 0 below −700. */
static inline V exponential_parts(V x, V *power) {
    const double shift = 6755399441055744.0;
    V n = (x * 1.44269504088896340736 + shift) - shift;
    V r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10, sum = all(1.0 / 6227020800.0);
    static const double inverse[12] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5,         1.0};
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) sum = sum * r + inverse[i];
    *power = (V)(((Mask)(n + (shift + 1023.0))) << 52);
    return r * sum;
}

static inline V exp_lanes(V x) {
    V power, rest = exponential_parts(larger(x, all(-700.0)), &power);
    return where(x > all(-700.0), power + power * rest, all(0.0));
}

static inline V expm1_lanes(V x) {
    V power, rest = exponential_parts(larger(x, all(-700.0)), &power);
    return (power - 1.0) + power * rest;
}

/* ---- vectors and matrices of three --------------------------------------------------------------------- */

static inline V dot(const V3 a, const V3 b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static inline void cross(const V3 a, const V3 b, V3 out) {
    V x = a[1] * b[2] - a[2] * b[1], y = a[2] * b[0] - a[0] * b[2], z = a[0] * b[1] - a[1] * b[0];
    out[0] = x, out[1] = y, out[2] = z;
}

/* to += c·a. */
static inline void add(V3 to, V c, const V3 a) { EACH(i) to[i] += c * a[i]; }

static inline void times(const M3 m, const V3 v, V3 out) { EACH(i) out[i] = m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2]; }

static inline void times_t(const M3 m, const V3 v, V3 out) { EACH(i) out[i] = m[0][i] * v[0] + m[1][i] * v[1] + m[2][i] * v[2]; }

/* a·b, a·bᵀ and aᵀ·b. */
static inline void product(const M3 a, const M3 b, M3 out) {
    EVERY(i, j) out[i][j] = a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j];
}
static inline void product_t(const M3 a, const M3 b, M3 out) {
    EVERY(i, j) out[i][j] = a[i][0] * b[j][0] + a[i][1] * b[j][1] + a[i][2] * b[j][2];
}
static inline void t_product(const M3 a, const M3 b, M3 out) {
    EVERY(i, j) out[i][j] = a[0][i] * b[0][j] + a[1][i] * b[1][j] + a[2][i] * b[2][j];
}

/* to += c·m; to += c·a·bᵀ; to += c·(a·bᵀ + b·aᵀ)/2. */
static inline void add_matrix(M3 to, V c, const M3 m) { EVERY(i, j) to[i][j] += c * m[i][j]; }
static inline void add_outer(M3 to, V c, const V3 a, const V3 b) { EVERY(i, j) to[i][j] += c * a[i] * b[j]; }
static inline void add_symmetric(M3 to, V c, const V3 a, const V3 b) {
    add_outer(to, 0.5 * c, a, b);
    add_outer(to, 0.5 * c, b, a);
}

/* Σ a_ij·b_ij. */
static inline V contract(const M3 a, const M3 b) {
    V sum = all(0.0);
    EVERY(i, j) sum += a[i][j] * b[i][j];
    return sum;
}

/* skew(v)·x = v × x; and the vector that a gradient of skew(v) is of v. */
static inline void skew(const V3 v, M3 out) {
    V none = all(0.0);
    out[0][0] = none, out[0][1] = -v[2], out[0][2] = v[1];
    out[1][0] = v[2], out[1][1] = none, out[1][2] = -v[0];
    out[2][0] = -v[1], out[2][1] = v[0], out[2][2] = none;
}
static inline void add_of_skew(V3 to, V c, const M3 grad) {
    to[0] += c * (grad[2][1] - grad[1][2]);
    to[1] += c * (grad[0][2] - grad[2][0]);
    to[2] += c * (grad[1][0] - grad[0][1]);
}

/* The inverse of a symmetric matrix; returns its determinant. */
static inline V invert(const M3 m, M3 out) {
    V3 c[3];
    EACH(i) cross(m[(i + 1) % 3], m[(i + 2) % 3], c[i]);
    V determinant = dot(m[0], c[0]), inverse = 1.0 / determinant;
    EVERY(i, j) out[j][i] = c[i][j] * inverse;
    return determinant;
}

static inline void clear_matrix(M3 m) { EVERY(i, j) m[i][j] = all(0.0); }
static inline void clear_vector(V3 v) { EACH(i) v[i] = all(0.0); }

#endif
