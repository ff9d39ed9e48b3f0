/* All orientations of a tile: the sum, its gradient or its tangents, and what can be left out of them. */
#ifndef NBTORCH_ORIENTATIONS_H
#define NBTORCH_ORIENTATIONS_H

#include "culling.h"
#include "shapes.h"
#include "structure_factor.h"
#include "tangents.h"
#include "tile.h"

enum mode { VALUE, GRADIENT, TANGENT };

/* Private sums of a chunk, peak-relative. */
struct sums {
    double *basis, *weight, *incident, *wavelength, *table;
    double n_cells[3], metric[6];
};

/* Everything of one orientation that the contractions need: δ, F_cell, intensity and its slopes. */
static void evaluate_slopes(const struct plan *plan, struct tile *t, const double *b, int begin, int end) {
    const struct lattice_args *a = plan->args;
    if (has_table(a)) {
        locate_in_table(plan, t, b, begin, end);
        load_amplitudes(plan, t, begin, end, 1);
    } else {
        locate(t, b, begin, end);
    }
    SLOPES_OF[a->shape](plan, t, begin, end);
    if (has_table(a) && a->interpolation == TRICUBIC) add_amplitude_slope(t, begin, end);
}

static void add_value(const struct plan *plan, struct tile *t, int64_t k, int begin, int end) {
    const struct lattice_args *a = plan->args;
    if (has_table(a)) {
        locate_in_table(plan, t, a->basis + 9 * k, begin, end);
        load_amplitudes(plan, t, begin, end, 0);
    } else {
        locate(t, a->basis + 9 * k, begin, end);
    }
    VALUE_OF[a->shape](plan, t, (REAL)(a->weight[k] / plan->largest_weight), begin, end);
}

/* dL/dq and the value per lane, and dL/dbasis of this orientation, in one pass over the lanes. */
static void contract_geometry(struct tile *t, const double *b, REAL weight, double *grad_basis, int begin, int end) {
    REAL b00 = (REAL)b[0], b01 = (REAL)b[1], b02 = (REAL)b[2], b10 = (REAL)b[3], b11 = (REAL)b[4], b12 = (REAL)b[5];
    REAL b20 = (REAL)b[6], b21 = (REAL)b[7], b22 = (REAL)b[8];
    REAL s00 = 0, s01 = 0, s02 = 0, s10 = 0, s11 = 0, s12 = 0, s20 = 0, s21 = 0, s22 = 0;
#pragma omp simd reduction(+ : s00, s01, s02, s10, s11, s12, s20, s21, s22)
    for (int i = begin; i < end; i++) {
        REAL g = weight * t->grad[i], h = g * t->slope[0][i], k = g * t->slope[1][i], l = g * t->slope[2][i];
        REAL x = t->q_real[0][i], y = t->q_real[1][i], z = t->q_real[2][i];
        t->sum_q[0][i] += h * b00 + k * b10 + l * b20;
        t->sum_q[1][i] += h * b01 + k * b11 + l * b21;
        t->sum_q[2][i] += h * b02 + k * b12 + l * b22;
        t->sum[i] += weight * t->intensity[i];
        s00 += h * x, s01 += h * y, s02 += h * z;
        s10 += k * x, s11 += k * y, s12 += k * z;
        s20 += l * x, s21 += l * y, s22 += l * z;
    }
    grad_basis[0] += s00, grad_basis[1] += s01, grad_basis[2] += s02;
    grad_basis[3] += s10, grad_basis[4] += s11, grad_basis[5] += s12;
    grad_basis[6] += s20, grad_basis[7] += s21, grad_basis[8] += s22;
}

/* Σ over lanes of grad times the intensity, and of what N or the metric multiply. */
static void contract_shape(const struct plan *plan, struct tile *t, double weight, double *grad_weight,
                           struct sums *sums, int begin, int end) {
    REAL intensity = 0, s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0;
    if (plan->args->shape == SQUARE) {
#pragma omp simd reduction(+ : intensity, s0, s1, s2)
        for (int i = begin; i < end; i++) {
            REAL g = t->grad[i];
            intensity += g * t->intensity[i];
            s0 += g * t->n_slope[0][i], s1 += g * t->n_slope[1][i], s2 += g * t->n_slope[2][i];
        }
        sums->n_cells[0] += weight * s0, sums->n_cells[1] += weight * s1, sums->n_cells[2] += weight * s2;
    } else {
#pragma omp simd reduction(+ : intensity, s0, s1, s2, s3, s4, s5)
        for (int i = begin; i < end; i++) {
            REAL g = t->grad[i], c = g * t->n_slope[0][i];
            REAL x = t->offset[0][i], y = t->offset[1][i], z = t->offset[2][i];
            intensity += g * t->intensity[i];
            s0 += c * x * x, s1 += c * y * y, s2 += c * z * z, s3 += c * x * y, s4 += c * x * z, s5 += c * y * z;
        }
        for (int axis = 0; axis < 3; axis++) sums->n_cells[axis] += weight * intensity;
        sums->metric[0] += weight * s0, sums->metric[1] += weight * s1, sums->metric[2] += weight * s2;
        sums->metric[3] += weight * s3, sums->metric[4] += weight * s4, sums->metric[5] += weight * s5;
    }
    *grad_weight += intensity;
}

static void add_gradient(const struct plan *plan, struct tile *t, struct sums *sums, int64_t k, int begin, int end) {
    const struct lattice_args *a = plan->args;
    const double *b = a->basis + 9 * k;
    double weight = a->weight[k] / plan->largest_weight;
    evaluate_slopes(plan, t, b, begin, end);
    if (plan->wants_shape) contract_shape(plan, t, weight, sums->weight + k, sums, begin, end);
    contract_geometry(t, b, (REAL)weight, sums->basis + 9 * k, begin, end);
    if (sums->table) scatter_table_gradient(plan, t, weight, sums->table, begin, end);
}

/* One orientation over the runs of groups that it reaches; all lanes when nothing is culled. */
static void add_orientation(const struct plan *plan, struct tile *t, struct sums *sums, struct tangent_tile *tangents,
                            enum mode mode, int64_t k, int begin, int end) {
    if (mode == VALUE) add_value(plan, t, k, begin, end);
    if (mode == GRADIENT) add_gradient(plan, t, sums, k, begin, end);
    if (mode == TANGENT) {
        evaluate_slopes(plan, t, plan->args->basis + 9 * k, begin, end);
        add_tangents(plan, t, tangents, k, begin, end);
    }
}

static void add_culled(const struct plan *plan, struct tile *t, struct sums *sums, struct tangent_tile *tangents,
                       const struct boxes *boxes, enum mode mode, int64_t k) {
    double reached[GROUPS + 1];
    find_reached(plan, boxes, plan->args->basis + 9 * k, reached);
    reached[GROUPS] = 0.0;
    for (int g = 0, run = 0; g <= GROUPS; g++) {
        if (reached[g] != 0.0) continue;
        if (run < g) add_orientation(plan, t, sums, tangents, mode, k, run * GROUP, g * GROUP);
        run = g + 1;
    }
}

/* All orientations of a loaded tile. */
static void sum_tile(const struct plan *plan, struct tile *t, struct sums *sums, struct tangent_tile *tangents,
                     enum mode mode) {
    int64_t n = plan->args->n_orientations;
    int culls = plan->cutoff < INFINITY;
    struct boxes boxes;
    if (culls) find_boxes(t, &boxes);
    for (int64_t start = 0; start < n; start += FLUSH_EVERY) {
        int64_t stop = start + FLUSH_EVERY < n ? start + FLUSH_EVERY : n;
        if (culls) find_reach(&boxes, plan->largest_axes + 9 * (start / FLUSH_EVERY));
        for (int64_t k = start; k < stop; k++) {
            if (culls)
                add_culled(plan, t, sums, tangents, &boxes, mode, k);
            else
                add_orientation(plan, t, sums, tangents, mode, k, 0, LANES);
        }
        flush_tile(t, mode != VALUE);
        if (tangents) flush_tangents(tangents);
    }
}

#endif
