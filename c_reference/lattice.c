/* F_latt: the interference of the unit cells of one mosaic block, by the block's shape. */
#include "nanobragg.h"

#include <math.h>

#define ROUND_SCALE 0.723601254558268 /* a sphere's transform against a cube's, at equal width */
#define GAUSS_WIDTH 0.63
#define TOPHAT_EDGE 0.3969 /* 0.63 squared */

static int is_odd(double whole) { return floor(0.5 * whole) != 0.5 * whole; }

/* sin(pi N x)/sin(pi x) with x = i + delta: the same magnitude as at delta, and the sign of (-1)^(i(N-1)). The
 * offset from the nearest index keeps the sines exact at large N and x. An axis of one cell gives 1. */
static double grating(double x, double nearest, double n, int n_is_even) {
    double delta = x - nearest, value;
    if (n <= 1.0) return 1.0;
    value = delta == 0.0 ? n : sin(PI * n * delta) / sin(PI * delta);
    return n_is_even && is_odd(nearest) ? -value : value;
}

/* 3(sin y/y - cos y)/y^2; the series where the difference would cancel. */
static double sinc3(double y) {
    double y2 = y * y;
    if (fabs(y) < 0.1) return 1.0 - y2 / 10.0 * (1.0 - y2 / 28.0 * (1.0 - y2 / 54.0));
    return 3.0 * (sin(y) / y - cos(y)) / y2;
}

/* Squared distance from the nearest node, in units of the inverse crystal edge. */
static double index_distance_sqr(const Crystal *c, const double *delta) {
    double sum = 0.0;
    for (int i = 0; i < 3; i++) sum += delta[i] * delta[i] * c->n[i] * c->n[i];
    return sum;
}

/* The same in reciprocal space, times the number of cells: the current nanoBragg's radius. */
static double reciprocal_distance_sqr(const Crystal *c, const double *delta) {
    Vec d = add(add(scale(delta[0], c->star.a), scale(delta[1], c->star.b)), scale(delta[2], c->star.c));
    double cells = c->n[0] * c->n[1] * c->n[2];
    return dot(d, d) * cells * cells;
}

double lattice_factor(const Crystal *c, Term *t) {
    double delta[3], cells = c->n[0] * c->n[1] * c->n[2];
    if (c->shape == SQUARE) {
        for (int i = 0; i < 3; i++) t->axis[i] = grating(t->hkl[i], t->nearest[i], c->n[i], c->n_is_even[i]);
        return t->axis[0] * t->axis[1] * t->axis[2];
    }
    for (int i = 0; i < 3; i++) {
        delta[i] = t->hkl[i] - t->nearest[i];
        t->axis[i] = 1.0; /* these shapes do not factor by axis */
    }
    switch (c->shape) {
    case ROUND: return cells * ROUND_SCALE * sinc3(PI * sqrt(index_distance_sqr(c, delta) * c->fudge));
    case GAUSS: return cells * exp(-reciprocal_distance_sqr(c, delta) * c->fudge / GAUSS_WIDTH);
    case GAUSS_HKL: return cells * exp(-index_distance_sqr(c, delta) * c->fudge / GAUSS_WIDTH);
    default: return reciprocal_distance_sqr(c, delta) * c->fudge < TOPHAT_EDGE ? cells : 0.0;
    }
}
