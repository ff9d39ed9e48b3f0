/* Σ_k weight_k·|F_cell|²·|F_latt|², its gradient and its tangents, of scattering vectors that are at hand.
 *
 * Compiled once per instruction set and precision (REAL). Nothing is stored per sample and orientation: the gradient
 * recomputes.
 */
#include "chunks.h"

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

/* Pixels of a chunk: whole tiles as far as the sources allow. */
static int64_t chunk_pixels(const struct lattice_args *a, enum mode mode) {
    int64_t tiles = (a->n_pixels * a->n_sources + LANES - 1) / LANES, most = most_chunks(a, mode);
    int64_t pixels = (tiles + most - 1) / most * LANES / a->n_sources;
    return pixels < 1 ? 1 : pixels;
}

static void run_chunk(const struct plan *plan, enum mode mode, int64_t first, int64_t last, struct sums *sums,
                      struct tangent_tile *tangents) {
    int64_t n_sources = plan->args->n_sources;
    struct tile t;
    for (int64_t start = first * n_sources; start < last * n_sources; start += LANES) {
        load_tile(plan, &t, start, last * n_sources, mode != VALUE);
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
    if (a->grad) plan.largest_grad = largest(a->grad, a->n_pixels * a->n_sources);
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
    free_plan(&plan);
    free(memory);
    free(sums);
    return (int)failed;
}

int JOIN(nbt_lattice_value, SUFFIX)(const struct lattice_args *a) { return run(a, VALUE); }

int JOIN(nbt_lattice_gradient, SUFFIX)(const struct lattice_args *a) {
    if (a->n_sources > 1) clear(a->grad_diffracted, 3 * a->n_pixels); /* one source writes each pixel once */
    clear_gradients(a);
    return run(a, GRADIENT);
}

int JOIN(nbt_lattice_tangents, SUFFIX)(const struct lattice_args *a) { return run(a, TANGENT); }
