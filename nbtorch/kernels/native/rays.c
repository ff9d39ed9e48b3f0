/* Diffracted rays and their weights, capture·solid angle·polarization; gradient and tangents. docs/physics.md §2, §4.
 *
 * Always double. Compiled once per instruction set. Chunks as in lattice.c: the same result for any thread count.
 */
#include <stdlib.h>

#include "ray_factors.h"
#include "ray_gradient.h"
#include "ray_tangents.h"

enum mode { VALUE, GRADIENT, TANGENT };

void ray_tile_load(const struct ray_args *a, struct ray_tile *t, int64_t start, int64_t end) {
    load_ray_tile(a, t, start, end);
}

void ray_tile_weight(const struct ray_args *a, const struct ray_tile *t, int64_t s, double *weight) {
    const double kahn = *a->in.kahn;
    double axes[9];
    load_axes(a, s, axes);
    FOR_LANES(i) {
        double factor = a->polarized ? polarization(along_axes(t, axes, i), kahn) : 1.0;
        weight[i] = t->capture[i] * t->omega[i] * factor;
    }
}

void ray_tile_source(const struct ray_args *a, const struct ray_tile *t, int64_t s, const double *grad, double *sums,
                     struct ray_grads *g) {
    add_rays_of_source(a, t, s, grad, g);
    if (wants_sources(a)) add_source(a, t, s, grad, chunk_sums(a, sums));
}

void ray_tile_finish(const struct ray_args *a, const struct ray_tile *t, double *sums, struct ray_grads *g) {
    finish_tile(a, t, chunk_sums(a, sums), g);
}

int64_t ray_sums_size(const struct ray_args *a) { return sums_size(a); }

void ray_sums_merge(const struct ray_args *a, double *sums) { merge_sums(a, sums); }

static void store_rays(const struct ray_args *a, const struct ray_tile *t) {
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < t->lanes; i++) a->diffracted[3 * (t->start + i) + j] = t->diffracted[j][i];
    double weight[LANES];
    for (int64_t s = 0; s < a->n_sources; s++) {
        ray_tile_weight(a, t, s, weight);
        for (int i = 0; i < t->lanes; i++) a->weight[(t->start + i) * a->n_sources + s] = weight[i];
    }
}

static void run_chunk(const struct ray_args *a, enum mode mode, int64_t first, int64_t last, double *sums) {
    struct ray_tile t;
    struct panel_lanes dot = {.uniform = -1};
    t.of_panel.uniform = -1;
    t.laid_out = 0;
    for (int64_t start = first; start < last; start += LANES) {
        load_ray_tile(a, &t, start, last);
        if (mode != GRADIENT) store_rays(a, &t);
        if (mode == GRADIENT) add_ray_gradient(a, &t, chunk_sums(a, sums));
        if (mode == TANGENT)
            for (int64_t n = 0; n < a->n_tangents; n++) store_ray_tangent(a, &t, &dot, n);
    }
}

int ray_bad_panel(const struct ray_args *a) {
    int bad = 0;
    int64_t each = a->oversample ? a->layers * a->oversample * a->oversample : 1;
    for (int64_t i = 0; i < a->n_samples / each; i++) bad |= (a->panel[i] < 0) | (a->panel[i] >= a->n_panels);
    return bad;
}

/* Run every chunk; returns 1 when memory is short, 2 when a sample names a panel that is not there, else 0. */
static int run(const struct ray_args *a, enum mode mode) {
    if (ray_bad_panel(a)) return 2;
    int64_t tiles = (a->n_samples + LANES - 1) / LANES, pixels = (tiles + 63) / 64 * LANES;
    int64_t chunks = (a->n_samples + pixels - 1) / pixels, size = sums_size(a);
    double *sums = mode == GRADIENT ? calloc((size_t)(chunks * size), sizeof *sums) : 0;
    if (mode == GRADIENT && !sums) return 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)a->n_threads)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t last = (c + 1) * pixels < a->n_samples ? (c + 1) * pixels : a->n_samples;
        run_chunk(a, mode, c * pixels, last, sums ? sums + c * size : 0);
    }
    for (int64_t c = 0; sums && c < chunks; c++) merge_sums(a, sums + c * size);
    free(sums);
    return 0;
}

int RAY_JOIN(nbt_rays_value, SET)(const struct ray_args *a) { return run(a, VALUE); }
int RAY_JOIN(nbt_rays_gradient, SET)(const struct ray_args *a) { return run(a, GRADIENT); }
int RAY_JOIN(nbt_rays_tangents, SET)(const struct ray_args *a) { return run(a, TANGENT); }
