/* Σ_k weight_k·|F_cell|²·|F_latt|², its gradient and its tangents.
 *
 * Compiled once per instruction set and precision (REAL). Samples are cut into chunks of whole pixels whose number does
 * not depend on the threads; a chunk keeps private sums, and the chunks are added in order. So the result is the same
 * for any number of threads. Nothing is stored per sample and orientation: the gradient recomputes.
 */
#include <stdlib.h>

#include "culling.h"
#include "shapes.h"
#include "structure_factor.h"
#include "tangents.h"
#include "tile.h"

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

enum mode { VALUE, GRADIENT, TANGENT };

/* Private sums of a chunk, peak-relative. */
struct sums {
    double *basis, *weight, *incident, *wavelength, *table;
    double n_cells[3], metric[6];
};

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
    plan.largest_grad = a->grad ? largest(a->grad, a->n_pixels * a->n_sources) : 1.0;
    plan.scale = peak * peak * (has_table(a) ? 1.0 : a->default_F * a->default_F);
    plan_culling(&plan, m);
    return plan;
}

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

/* dL/dq per lane, and dL/dbasis of this orientation: slopes in, both contractions in one pass over the lanes. */
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
    contract_shape(plan, t, weight, sums->weight + k, sums, begin, end);
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
        for (int64_t k = start; k < stop; k++) {
            if (culls)
                add_culled(plan, t, sums, tangents, &boxes, mode, k);
            else
                add_orientation(plan, t, sums, tangents, mode, k, 0, LANES);
        }
        flush_tile(t);
        if (tangents) flush_tangents(tangents);
    }
}

static void store_value(const struct plan *plan, const struct tile *t, int64_t start) {
    double scale = plan->scale * plan->largest_weight;
    if (plan->args->value)
        for (int i = 0; i < t->lanes; i++) plan->args->value[start + i] = scale * t->total[i] * t->kept[i];
}

/* dL/dq of each lane goes to its pixel, its source and its wavelength: q = (diffracted − incident)/λ. */
static void store_gradient(const struct plan *plan, struct tile *t, struct sums *sums) {
    const struct lattice_args *a = plan->args;
    double scale = plan->scale * plan->largest_weight * plan->largest_grad, along[LANES];
    if (a->n_sources == 1) {
        double one = scale / a->wavelength[0];
        FOR_LANES(i, 0, LANES) along[i] = one;
    } else {
        for (int i = 0; i < LANES; i++) along[i] = scale / a->wavelength[t->source[i]];
    }
    FOR_LANES(i, 0, LANES) {
        double g = along[i];
        double x = g * t->total_q[0][i], y = g * t->total_q[1][i], z = g * t->total_q[2][i];
        along[i] = x * t->q[0][i] + y * t->q[1][i] + z * t->q[2][i];
        t->total_q[0][i] = x, t->total_q[1][i] = y, t->total_q[2][i] = z;
    }
    if (a->n_sources == 1) {
        double *to = a->grad_diffracted + 3 * t->pixel[0];
        for (int i = 0; i < t->lanes; i++)
            to[3 * i] = t->total_q[0][i], to[3 * i + 1] = t->total_q[1][i], to[3 * i + 2] = t->total_q[2][i];
        double x = 0, y = 0, z = 0, w = 0; /* lanes past the end have grad 0 */
#pragma omp simd reduction(+ : x, y, z, w)
        for (int i = 0; i < LANES; i++)
            x += t->total_q[0][i], y += t->total_q[1][i], z += t->total_q[2][i], w += along[i];
        sums->incident[0] -= x, sums->incident[1] -= y, sums->incident[2] -= z, sums->wavelength[0] -= w;
        return;
    }
    for (int i = 0; i < t->lanes; i++) {
        for (int j = 0; j < 3; j++) a->grad_diffracted[3 * t->pixel[i] + j] += t->total_q[j][i];
        for (int j = 0; j < 3; j++) sums->incident[3 * t->source[i] + j] -= t->total_q[j][i];
        sums->wavelength[t->source[i]] -= along[i];
    }
}

/* Doubles of a chunk's private sums; the chunks are as many as fit in 256 MB, whatever the threads. */
static int64_t private_size(const struct lattice_args *a) {
    int64_t table = a->grad_table ? a->count[0] * a->count[1] * a->count[2] : 0;
    return 10 * a->n_orientations + 4 * a->n_sources + table;
}

/* Pixels of a chunk: whole tiles as far as the sources allow. */
static int64_t chunk_pixels(const struct lattice_args *a, enum mode mode) {
    int64_t tiles = (a->n_pixels * a->n_sources + LANES - 1) / LANES, most = mode == GRADIENT ? 64 : 1024;
    if (mode == GRADIENT && most * private_size(a) > (int64_t)32 << 20) most = ((int64_t)32 << 20) / private_size(a);
    int64_t per_chunk = (tiles + most - 1) / (most < 1 ? 1 : most);
    if (most < 1) per_chunk = tiles;
    int64_t pixels = per_chunk * LANES / a->n_sources;
    return pixels < 1 ? 1 : pixels;
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
    for (int64_t i = 0; i < n; i++) to[i] += scale * from[i];
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
        if (!left_out) a->grad_n_cells[i] += 2.0 * scale / a->n_cells[i] * sums->n_cells[i];
    }
    static const int entry[9] = {0, 3, 4, 3, 1, 5, 4, 5, 2};
    for (int i = 0; i < 9; i++) a->grad_metric[i] += scale * sums->metric[entry[i]];
}

static void run_chunk(const struct plan *plan, enum mode mode, int64_t first, int64_t last, struct sums *sums,
                      struct tangent_tile *tangents) {
    int64_t n_sources = plan->args->n_sources;
    struct tile t;
    for (int64_t start = first * n_sources; start < last * n_sources; start += LANES) {
        load_tile(plan, &t, start, last * n_sources);
        if (tangents) clear_tangents(tangents);
        sum_tile(plan, &t, sums, tangents, mode);
        if (mode != GRADIENT) store_value(plan, &t, start);
        if (mode == GRADIENT) store_gradient(plan, &t, sums);
        if (mode == TANGENT) store_tangents(plan, &t, tangents, start);
    }
}

/* Run every chunk; returns 1 when memory is short, else 0. */
static int run(const struct lattice_args *a, enum mode mode) {
    struct plan plan = make_plan(a);
    int64_t pixels = chunk_pixels(a, mode), chunks = (a->n_pixels + pixels - 1) / pixels;
    int64_t size = private_size(a), failed = 0;
    double *memory = mode == GRADIENT ? calloc((size_t)(chunks * size), sizeof *memory) : 0;
    struct sums *sums = calloc((size_t)chunks, sizeof *sums);
    struct tangent_plan tangent_plan = {0};
    if (mode == TANGENT) failed = plan_tangents(&plan, &tangent_plan);
    if (!sums || (mode == GRADIENT && !memory)) failed = 1;
    if (!failed) {
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)a->n_threads)
        for (int64_t c = 0; c < chunks; c++) {
            struct tangent_tile *tangents = mode == TANGENT ? make_tangent_tile(&tangent_plan) : 0;
            if (mode == GRADIENT) sums[c] = private_sums(a, memory + c * size);
            if (mode == TANGENT && !tangents) {
#pragma omp atomic write
                failed = 1;
                continue;
            }
            int64_t last = (c + 1) * pixels < a->n_pixels ? (c + 1) * pixels : a->n_pixels;
            run_chunk(&plan, mode, c * pixels, last, &sums[c], tangents);
            free(tangents);
        }
    }
    if (!failed && mode == GRADIENT)
        for (int64_t c = 0; c < chunks; c++) merge(&plan, &sums[c]);
    free_tangent_plan(&tangent_plan);
    free(memory);
    free(sums);
    return (int)failed;
}

int JOIN(nbt_lattice_value, SUFFIX)(const struct lattice_args *a) { return run(a, VALUE); }

int JOIN(nbt_lattice_gradient, SUFFIX)(const struct lattice_args *a) {
    if (a->n_sources > 1) clear(a->grad_diffracted, 3 * a->n_pixels); /* one source writes each pixel once */
    clear(a->grad_incident, 3 * a->n_sources);
    clear(a->grad_wavelength, a->n_sources);
    clear(a->grad_basis, 9 * a->n_orientations);
    clear(a->grad_weight, a->n_orientations);
    clear(a->grad_n_cells, 3);
    clear(a->grad_metric, 9);
    if (a->grad_table) clear(a->grad_table, a->count[0] * a->count[1] * a->count[2]);
    return run(a, GRADIENT);
}

int JOIN(nbt_lattice_tangents, SUFFIX)(const struct lattice_args *a) { return run(a, TANGENT); }
