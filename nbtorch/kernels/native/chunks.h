/* A chunk is a run of whole pixels; their number does not depend on the threads, and each keeps private sums that are
 * added in order. So the result is the same for any number of threads. */
#ifndef NBTORCH_CHUNKS_H
#define NBTORCH_CHUNKS_H

#include <stdlib.h>

#include "orientations.h"

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

static double largest(const double *x, int64_t n) {
    double result = 0.0;
#pragma omp simd reduction(max : result)
    for (int64_t i = 0; i < n; i++) result = fabs(x[i]) > result ? fabs(x[i]) : result;
    return result > 0.0 && isfinite(result) ? result : 1.0;
}

static struct plan make_plan(const struct lattice_args *a) {
    struct plan plan = {.args = a};
    const double *m = a->metric;
    static const int rows[6] = {0, 1, 2, 0, 0, 1}, columns[6] = {0, 1, 2, 1, 2, 2};
    for (int i = 0; i < 6; i++)
        plan.metric[i] = (REAL)(0.5 * (m[3 * rows[i] + columns[i]] + m[3 * columns[i] + rows[i]]));
    double peak = a->shape == ROUND ? 0.723601254558268 : 1.0;
    for (int i = 0; i < 3; i++) {
        double n = a->shape == SQUARE ? fmax(a->n_cells[i], 1.0) : a->n_cells[i];
        plan.n[i] = (REAL)n;
        plan.inverse_n[i] = (REAL)(1.0 / n);
        plan.twice[i] = n > 1.0 ? R(2) : R(0);
        peak *= n;
    }
    plan.largest_weight = largest(a->weight, a->n_orientations);
    plan.largest_grad = 1.0;
    plan.wants_shape = a->n_tangents || a->grad_n_cells || a->grad_metric || a->grad_weight;
    plan.scale = peak * peak * (has_table(a) ? 1.0 : a->default_F * a->default_F);
    plan_culling(&plan, m);
    return plan;
}

static void free_plan(struct plan *plan) { free(plan->largest_axes); }

/* Doubles of a chunk's private sums; the chunks are as many as fit in 256 MB, whatever the threads. */
static int64_t private_size(const struct lattice_args *a) {
    int64_t table = a->grad_table ? a->count[0] * a->count[1] * a->count[2] : 0;
    return 10 * a->n_orientations + 4 * a->n_sources + table;
}

/* How many chunks there may be: few where each keeps much, since all are kept at once; at least one. */
static int64_t most_chunks(const struct lattice_args *a, enum mode mode) {
    if (mode != GRADIENT) return 1024;
    int64_t fit = ((int64_t)32 << 20) / private_size(a);
    return fit < 1 ? 1 : fit < 64 ? fit : 64;
}

static struct sums private_sums(const struct lattice_args *a, double *memory) {
    struct sums sums = {.basis = memory};
    sums.weight = sums.basis + 9 * a->n_orientations;
    sums.incident = sums.weight + a->n_orientations;
    sums.wavelength = sums.incident + 3 * a->n_sources;
    sums.table = a->grad_table ? sums.wavelength + a->n_sources : 0;
    return sums;
}

static void add_scaled(double *to, const double *from, int64_t n, double scale) {
    for (int64_t i = 0; to && i < n; i++) to[i] += scale * from[i];
}

/* Add a chunk's sums to the results, in the units of the caller. */
static void merge(const struct plan *plan, const struct sums *sums) {
    const struct lattice_args *a = plan->args;
    double unweighted = plan->scale * plan->largest_grad, scale = unweighted * plan->largest_weight;
    add_scaled(a->grad_basis, sums->basis, 9 * a->n_orientations, scale);
    add_scaled(a->grad_weight, sums->weight, a->n_orientations, unweighted);
    add_scaled(a->grad_incident, sums->incident, 3 * a->n_sources, 1.0);
    add_scaled(a->grad_wavelength, sums->wavelength, a->n_sources, 1.0);
    if (sums->table) add_scaled(a->grad_table, sums->table, a->count[0] * a->count[1] * a->count[2], scale);
    for (int i = 0; i < 3; i++) {
        int left_out = a->shape == SQUARE && a->n_cells[i] <= 1.0;
        if (a->grad_n_cells && !left_out) a->grad_n_cells[i] += 2.0 * scale / a->n_cells[i] * sums->n_cells[i];
    }
    static const int entry[9] = {0, 3, 4, 3, 1, 5, 4, 5, 2};
    for (int i = 0; a->grad_metric && i < 9; i++) a->grad_metric[i] += scale * sums->metric[entry[i]];
}

static void clear_result(double *x, int64_t n) {
    if (x) clear(x, n);
}

static void clear_gradients(const struct lattice_args *a) {
    clear_result(a->grad_incident, 3 * a->n_sources);
    clear_result(a->grad_wavelength, a->n_sources);
    clear_result(a->grad_basis, 9 * a->n_orientations);
    clear_result(a->grad_weight, a->n_orientations);
    clear_result(a->grad_n_cells, 3);
    clear_result(a->grad_metric, 9);
    clear_result(a->grad_table, a->count[0] * a->count[1] * a->count[2]);
}

#endif
