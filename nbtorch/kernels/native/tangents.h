/* Forward mode: T tangents of the sum at once.
 *
 * ∂I/∂q serves every tangent of the beam and the detector. A tangent of the basis that is the same change of cell axes
 * for every orientation, Ḃ_k = E·B_k, as those of cell and misset are (spindle and mosaic rotate afterwards), needs
 * only Σ_k ∂I/∂h ⊗ h, once for all of them. What is left, such as the mosaic spread, is contracted one by one.
 */
#ifndef NBTORCH_TANGENTS_H
#define NBTORCH_TANGENTS_H

#include <stdlib.h>

#include "structure_factor.h"
#include "tile.h"

struct own_tangent {
    int64_t index;
    int basis, weight, table; /* which of them it moves in a way of its own */
};

struct tangent_plan {
    double *shared; /* [T, 9] E of Ḃ_k = E·B_k */
    struct own_tangent *own;
    int64_t n_own;
    int wants_shared, wants_shape;
};

struct tangent_tile {
    const struct tangent_plan *plan;
    REAL sum_hkl[9][LANES], sum_shape[6][LANES]; /* Σ_k ∂I/∂h ⊗ h; of N or of the metric */
    double total_hkl[9][LANES], total_shape[6][LANES];
    double own[]; /* [n_own, LANES] */
};

static int any_nonzero(const double *x, int64_t n) {
    for (int64_t i = 0; x && i < n; i++)
        if (x[i] != 0.0) return 1;
    return 0;
}

static void invert(const double *m, double *inverse) {
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            int r = (j + 1) % 3, s = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
            inverse[3 * i + j] = m[3 * r + c] * m[3 * s + d] - m[3 * r + d] * m[3 * s + c];
        }
    double determinant = m[0] * inverse[0] + m[1] * inverse[3] + m[2] * inverse[6];
    for (int i = 0; i < 9; i++) inverse[i] /= determinant;
}

static void multiply(const double *x, const double *y, double *product) {
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            product[3 * i + j] = x[3 * i] * y[j] + x[3 * i + 1] * y[3 + j] + x[3 * i + 2] * y[6 + j];
}

/* Whether dot [K, 9] is E·basis for one E, to rounding; E from the first orientation. */
static int is_shared(const double *dot, const double *basis, int64_t n, double *e) {
    double inverse[9], product[9], size = 0.0;
    invert(basis, inverse);
    multiply(dot, inverse, e);
    for (int64_t i = 0; i < 9 * n; i++) size = fmax(size, fabs(dot[i]));
    for (int64_t k = 0; k < n; k++) {
        multiply(e, basis + 9 * k, product);
        for (int i = 0; i < 9; i++)
            if (!(fabs(product[i] - dot[9 * k + i]) <= 1e-13 * size)) return 0;
    }
    return 1;
}

/* Sort the tangents; returns 1 when memory is short. */
static int plan_tangents(const struct plan *plan, struct tangent_plan *p) {
    const struct lattice_args *a = plan->args;
    int64_t n = a->n_tangents, k = a->n_orientations, table = a->count[0] * a->count[1] * a->count[2];
    p->shared = calloc((size_t)(9 * n + 1), sizeof *p->shared);
    p->own = calloc((size_t)(n + 1), sizeof *p->own);
    if (!p->shared || !p->own) return 1;
    for (int64_t t = 0; t < n; t++) {
        struct own_tangent own = {.index = t};
        const double *basis = a->dot_basis ? a->dot_basis + 9 * k * t : 0;
        if (any_nonzero(basis, 9 * k)) {
            own.basis = !is_shared(basis, a->basis, k, p->shared + 9 * t);
            if (own.basis) clear(p->shared + 9 * t, 9);
            p->wants_shared |= !own.basis;
        }
        own.weight = a->dot_weight && any_nonzero(a->dot_weight + k * t, k);
        own.table = a->table && a->dot_table && any_nonzero(a->dot_table + table * t, table);
        if (own.basis || own.weight || own.table) p->own[p->n_own++] = own;
    }
    p->wants_shape = any_nonzero(a->dot_n_cells, 3 * n) || any_nonzero(a->dot_metric, 9 * n);
    return 0;
}

static void free_tangent_plan(struct tangent_plan *p) {
    free(p->shared);
    free(p->own);
}

static struct tangent_tile *make_tangent_tile(const struct tangent_plan *p) {
    struct tangent_tile *t = malloc(sizeof *t + (size_t)p->n_own * LANES * sizeof(double));
    if (t) t->plan = p;
    return t;
}

static void clear_lanes(REAL (*sum)[LANES], double (*total)[LANES], int count) {
    for (int j = 0; j < count; j++) FOR_LANES(i, 0, LANES) sum[j][i] = R(0), total[j][i] = 0.0;
}

static void clear_tangents(struct tangent_tile *t) {
    if (t->plan->wants_shared) clear_lanes(t->sum_hkl, t->total_hkl, 9);
    if (t->plan->wants_shape) clear_lanes(t->sum_shape, t->total_shape, 6);
    clear(t->own, t->plan->n_own * LANES);
}

static void flush_lanes(REAL (*sum)[LANES], double (*total)[LANES], int count) {
    for (int j = 0; j < count; j++) FOR_LANES(i, 0, LANES) {
            total[j][i] += sum[j][i];
            sum[j][i] = R(0);
        }
}

static void flush_tangents(struct tangent_tile *t) {
    if (t->plan->wants_shared) flush_lanes(t->sum_hkl, t->total_hkl, 9);
    if (t->plan->wants_shape) flush_lanes(t->sum_shape, t->total_shape, 6);
}

/* Σ_k ∂I/∂q, and with `shared` Σ_k ∂I/∂h ⊗ h. */
static void add_geometry(struct tile *t, struct tangent_tile *tangents, const double *b, REAL weight, int begin,
                         int end) {
    REAL b00 = (REAL)b[0], b01 = (REAL)b[1], b02 = (REAL)b[2], b10 = (REAL)b[3], b11 = (REAL)b[4], b12 = (REAL)b[5];
    REAL b20 = (REAL)b[6], b21 = (REAL)b[7], b22 = (REAL)b[8];
    FOR_LANES(i, begin, end) {
        REAL h = weight * t->slope[0][i], k = weight * t->slope[1][i], l = weight * t->slope[2][i];
        t->sum[i] += weight * t->intensity[i];
        t->sum_q[0][i] += h * b00 + k * b10 + l * b20;
        t->sum_q[1][i] += h * b01 + k * b11 + l * b21;
        t->sum_q[2][i] += h * b02 + k * b12 + l * b22;
    }
    if (!tangents->plan->wants_shared) return;
    REAL(*sum)[LANES] = tangents->sum_hkl;
    FOR_LANES(i, begin, end) {
        REAL x = t->q_real[0][i], y = t->q_real[1][i], z = t->q_real[2][i];
        REAL h = b00 * x + b01 * y + b02 * z, k = b10 * x + b11 * y + b12 * z, l = b20 * x + b21 * y + b22 * z;
        REAL s0 = weight * t->slope[0][i], s1 = weight * t->slope[1][i], s2 = weight * t->slope[2][i];
        sum[0][i] += s0 * h, sum[1][i] += s0 * k, sum[2][i] += s0 * l;
        sum[3][i] += s1 * h, sum[4][i] += s1 * k, sum[5][i] += s1 * l;
        sum[6][i] += s2 * h, sum[7][i] += s2 * k, sum[8][i] += s2 * l;
    }
}

static void add_shape(const struct plan *plan, struct tile *t, struct tangent_tile *tangents, REAL weight, int begin,
                      int end) {
    REAL(*sum)[LANES] = tangents->sum_shape;
    if (plan->args->shape == SQUARE) {
        for (int axis = 0; axis < 3; axis++)
            FOR_LANES(i, begin, end) sum[axis][i] += weight * t->n_slope[axis][i];
        return;
    }
    FOR_LANES(i, begin, end) {
        REAL c = weight * t->n_slope[0][i], x = t->offset[0][i], y = t->offset[1][i], z = t->offset[2][i];
        sum[0][i] += c * x * x, sum[1][i] += c * y * y, sum[2][i] += c * z * z;
        sum[3][i] += c * x * y, sum[4][i] += c * x * z, sum[5][i] += c * y * z;
    }
}

/* Tangents that move each orientation in their own way, or its weight, or the amplitudes. */
static void add_own(const struct plan *plan, struct tile *t, struct tangent_tile *tangents, int64_t k, double weight,
                    int begin, int end) {
    const struct lattice_args *a = plan->args;
    int64_t n_table = a->count[0] * a->count[1] * a->count[2];
    for (int64_t n = 0; n < tangents->plan->n_own; n++) {
        struct own_tangent own = tangents->plan->own[n];
        double *to = tangents->own + n * LANES;
        if (own.basis) {
            const double *d = a->dot_basis + 9 * (own.index * a->n_orientations + k);
            FOR_LANES(i, begin, end) {
                double x = t->q[0][i], y = t->q[1][i], z = t->q[2][i];
                to[i] += weight * (t->slope[0][i] * (d[0] * x + d[1] * y + d[2] * z) +
                                   t->slope[1][i] * (d[3] * x + d[4] * y + d[5] * z) +
                                   t->slope[2][i] * (d[6] * x + d[7] * y + d[8] * z));
            }
        }
        if (own.weight) {
            double dot = a->dot_weight[own.index * a->n_orientations + k] / plan->largest_weight;
            FOR_LANES(i, begin, end) to[i] += dot * t->intensity[i];
        }
        for (int i = begin; own.table && i < end; i++)
            to[i] += weight * amplitude_gradient(t, i) *
                     table_value(a, t, a->dot_table + n_table * own.index, 0.0, i, 0);
    }
}

static void add_tangents(const struct plan *plan, struct tile *t, struct tangent_tile *tangents, int64_t k, int begin,
                         int end) {
    double weight = plan->args->weight[k] / plan->largest_weight;
    add_geometry(t, tangents, plan->args->basis + 9 * k, (REAL)weight, begin, end);
    if (tangents->plan->wants_shape) add_shape(plan, t, tangents, (REAL)weight, begin, end);
    add_own(plan, t, tangents, k, weight, begin, end);
}

/* What N and metric tangents `n` add, peak-relative. */
static void add_shape_tangent(const struct plan *plan, const struct tile *t, const struct tangent_tile *tangents,
                              int64_t n, double *sum) {
    const struct lattice_args *a = plan->args;
    for (int axis = 0; a->dot_n_cells && axis < 3; axis++) {
        double relative = 2.0 * a->dot_n_cells[3 * n + axis] / a->n_cells[axis];
        const double *of_n = a->shape == SQUARE ? tangents->total_shape[axis] : t->total;
        int left_out = a->shape == SQUARE && a->n_cells[axis] <= 1.0;
        if (!left_out) FOR_LANES(i, 0, LANES) sum[i] += relative * of_n[i];
    }
    static const int entry[9] = {0, 3, 4, 3, 1, 5, 4, 5, 2};
    for (int j = 0; a->dot_metric && a->shape != SQUARE && j < 9; j++) {
        double dot = a->dot_metric[9 * n + j];
        FOR_LANES(i, 0, LANES) sum[i] += dot * tangents->total_shape[entry[j]][i];
    }
}

/* Σ_j ∂I/∂q_j·q̇_j: q = (diffracted − incident)/λ. */
static void add_ray_tangent(const struct plan *plan, const struct tile *t, int64_t n, double *sum) {
    const struct lattice_args *a = plan->args;
    if (!a->dot_diffracted && !a->dot_incident && !a->dot_wavelength) return;
    for (int i = 0; i < t->lanes; i++) {
        int64_t p = n * a->n_pixels + t->pixel[i], s = n * a->n_sources + t->source[i];
        double result = 0.0;
        for (int j = 0; j < 3; j++) {
            double dot = a->dot_diffracted ? a->dot_diffracted[3 * p + j] : 0.0;
            if (a->dot_incident) dot -= a->dot_incident[3 * s + j];
            if (a->dot_wavelength) dot -= t->q[j][i] * a->dot_wavelength[s];
            result += t->total_q[j][i] * dot;
        }
        sum[i] += result / a->wavelength[t->source[i]];
    }
}

static void store_tangents(const struct plan *plan, const struct tile *t, const struct tangent_tile *tangents,
                           int64_t start) {
    const struct lattice_args *a = plan->args;
    double scale = plan->scale * plan->largest_weight;
    int64_t own = 0;
    for (int64_t n = 0; n < a->n_tangents; n++) {
        const double *e = tangents->plan->shared + 9 * n;
        double sum[LANES] = {0}, *to = a->tangent + n * a->n_pixels * a->n_sources + start;
        if (own < tangents->plan->n_own && tangents->plan->own[own].index == n) {
            const double *of_own = tangents->own + LANES * own++;
            FOR_LANES(i, 0, LANES) sum[i] = of_own[i];
        }
        add_ray_tangent(plan, t, n, sum);
        for (int j = 0; tangents->plan->wants_shared && j < 9; j++)
            FOR_LANES(i, 0, LANES) sum[i] += e[j] * tangents->total_hkl[j][i];
        if (tangents->plan->wants_shape) add_shape_tangent(plan, t, tangents, n, sum);
        for (int i = 0; i < t->lanes; i++) to[i] = scale * sum[i] * t->kept[i];
    }
}

#endif
