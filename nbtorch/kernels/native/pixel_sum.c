/* Σ over the samples and sources of a pixel of source weight·ray weight·lattice sum, and its gradient.
 *
 * rays.c and lattice.c in one pass: a tile's rays are made, taken through all orientations, and added to their pixels
 * while they are in the first-level cache. With one orientation, bringing them to memory and back costs more than the
 * sum. Compiled once per instruction set (SET) and precision (REAL); rays are always double.
 */
#include "pixel_sum.h"

#include "chunks.h"
#include "ray_tile.h"

/* What is the same for every chunk. */
struct whole {
    const struct pixel_sum_args *args;
    struct plan plan;
    int64_t each;      /* samples of a pixel */
    int wants_rays;    /* whether any gradient goes through them */
};

/* What a chunk adds up for itself. */
struct private {
    struct sums lattice;
    double *rays, *source_weight;
};

static struct whole make_whole(const struct pixel_sum_args *a, enum mode mode) {
    struct whole whole = {.args = a, .plan = make_plan(&a->lattice)};
    whole.each = a->rays.layers * a->rays.oversample * a->rays.oversample;
    if (mode != GRADIENT) return whole;
    struct ray_tile first = {.of_panel.uniform = -1};
    double weight[LANES];
    ray_tile_load(&a->rays, &first, 0, a->rays.n_samples);
    ray_tile_weight(&a->rays, &first, 0, weight);
    /* some ray's weight: the size of a solid angle, so that floats hold what is relative to it */
    whole.plan.largest_grad = largest(a->grad, a->rays.n_samples / whole.each) * largest(weight, LANES);
    const struct ray_inputs *g = &a->rays.grad;
    whole.wants_rays = g->frame || g->pixel_size || g->absorption || g->layer_step || g->incident || g->along_e ||
                       g->along_b || g->kahn;
    return whole;
}

/* Σ over sources [lanes] of a tile. */
static void sum_sources(const struct whole *whole, const struct ray_tile *rays, double *total) {
    const struct pixel_sum_args *a = whole->args;
    const double scale = whole->plan.scale * whole->plan.largest_weight;
    double weight[LANES];
    struct tile t;
    clear(total, LANES);
    for (int64_t s = 0; s < a->rays.n_sources; s++) {
        double of_source = scale * a->source_weight[s];
        ray_tile_weight(&a->rays, rays, s, weight);
        scatter(&a->lattice, &t, rays->diffracted, s);
        start_tile(&a->lattice, &t, 0);
        sum_tile(&whole->plan, &t, 0, 0, VALUE);
        FOR_LANES(i, 0, LANES) total[i] += of_source * weight[i] * (t.total[i] * t.kept[i]);
    }
}

/* The lanes of a tile to their pixels; a pixel's samples follow each other. */
static void add_to_pixels(const struct whole *whole, const struct ray_tile *rays, const double *total) {
    int64_t each = whole->each, left = each - rays->start % each, n;
    double *to = whole->args->value + rays->start / each;
    for (int64_t i = 0; i < rays->lanes; i += n, left = each) {
        double sum = 0.0;
        n = left < rays->lanes - i ? left : rays->lanes - i;
        for (int64_t j = i; j < i + n; j++) sum += total[j];
        *to++ += sum;
    }
}

/* dL/d(pixel) of every lane; 0 past the end. */
static void spread_from_pixels(const struct whole *whole, const struct ray_tile *rays, double *grad) {
    int64_t each = whole->each, left = each - rays->start % each, n;
    const double *from = whole->args->grad + rays->start / each;
    for (int64_t i = 0; i < rays->lanes; i += n, left = each, from++) {
        n = left < rays->lanes - i ? left : rays->lanes - i;
        for (int64_t j = i; j < i + n; j++) grad[j] = *from;
    }
    for (int64_t i = rays->lanes; i < LANES; i++) grad[i] = 0.0;
}

/* Source s: what it sends to the rays of the tile, to its own vectors, and (in sum_tile) to all orientations. */
static void gradient_of_source(const struct whole *whole, const struct ray_tile *rays, int64_t s, const double *grad,
                               struct private *own, struct ray_grads *g) {
    const struct pixel_sum_args *a = whole->args;
    const struct plan *plan = &whole->plan;
    const double of_source = a->source_weight[s], relative = of_source / plan->largest_grad;
    const double scale = plan->scale * plan->largest_weight, along = scale * plan->largest_grad / a->lattice.wavelength[s];
    double weight[LANES], to_weight[LANES], x = 0, y = 0, z = 0, w = 0, to_source = 0;
    struct tile t;
    ray_tile_weight(&a->rays, rays, s, weight);
    scatter(&a->lattice, &t, rays->diffracted, s);
    start_tile(&a->lattice, &t, 1);
    FOR_LANES(i, 0, LANES) t.grad[i] = (REAL)(grad[i] * weight[i] * relative * t.kept[i]);
    sum_tile(plan, &t, &own->lattice, 0, GRADIENT);
#pragma omp simd reduction(+ : x, y, z, w, to_source)
    for (int i = 0; i < LANES; i++) {
        double dx = along * t.total_q[0][i], dy = along * t.total_q[1][i], dz = along * t.total_q[2][i];
        double summed = scale * grad[i] * (t.total[i] * t.kept[i]);
        g->diffracted[0][i] += dx, g->diffracted[1][i] += dy, g->diffracted[2][i] += dz;
        x += dx, y += dy, z += dz, w += dx * t.q[0][i] + dy * t.q[1][i] + dz * t.q[2][i];
        to_weight[i] = of_source * summed;
        to_source += weight[i] * summed;
    }
    double *incident = own->lattice.incident + 3 * s;
    incident[0] -= x, incident[1] -= y, incident[2] -= z;
    own->lattice.wavelength[s] -= w;
    own->source_weight[s] += to_source;
    if (whole->wants_rays) ray_tile_source(&a->rays, rays, s, to_weight, own->rays, g);
}

static void add_gradients(const struct whole *whole, const struct ray_tile *rays, struct private *own) {
    double grad[LANES];
    struct ray_grads g;
    memset(g.diffracted, 0, sizeof g.diffracted);
    memset(g.product, 0, sizeof g.product);
    spread_from_pixels(whole, rays, grad);
    for (int64_t s = 0; s < whole->args->rays.n_sources; s++) gradient_of_source(whole, rays, s, grad, own, &g);
    if (whole->wants_rays) ray_tile_finish(&whole->args->rays, rays, own->rays, &g);
}

static void run_chunk(const struct whole *whole, enum mode mode, int64_t first, int64_t last, struct private *own) {
    struct ray_tile rays = {.of_panel.uniform = -1};
    double total[LANES];
    for (int64_t start = first; start < last; start += LANES) {
        ray_tile_load(&whole->args->rays, &rays, start, last);
        if (mode == GRADIENT) {
            add_gradients(whole, &rays, own);
        } else {
            sum_sources(whole, &rays, total);
            add_to_pixels(whole, &rays, total);
        }
    }
}

static struct private make_private(const struct whole *whole, double *memory) {
    const struct pixel_sum_args *a = whole->args;
    struct private own = {private_sums(&a->lattice, memory)};
    own.rays = memory + private_size(&a->lattice);
    own.source_weight = own.rays + ray_sums_size(&a->rays);
    return own;
}

static void merge_private(const struct whole *whole, const struct private *own) {
    merge(&whole->plan, &own->lattice);
    ray_sums_merge(&whole->args->rays, own->rays);
    add_scaled(whole->args->grad_source_weight, own->source_weight, whole->args->rays.n_sources, 1.0);
}

/* Samples of a chunk: whole pixels, whole tiles as far as these allow. */
static int64_t chunk_samples(const struct whole *whole, enum mode mode) {
    int64_t tiles = (whole->args->rays.n_samples + LANES - 1) / LANES, most = most_chunks(&whole->args->lattice, mode);
    int64_t samples = (tiles + most - 1) / most * LANES;
    return (samples + whole->each - 1) / whole->each * whole->each;
}

/* Run every chunk; returns 1 when memory is short, 2 when a pixel names a panel that is not there, else 0. */
static int run(const struct pixel_sum_args *a, enum mode mode) {
    if (ray_bad_panel(&a->rays)) return 2;
    struct whole whole = make_whole(a, mode);
    int64_t n = a->rays.n_samples, samples = chunk_samples(&whole, mode), chunks = (n + samples - 1) / samples;
    int64_t size = private_size(&a->lattice) + ray_sums_size(&a->rays) + a->rays.n_sources;
    double *memory = mode == GRADIENT ? calloc((size_t)(chunks * size), sizeof *memory) : 0;
    struct private *own = calloc((size_t)chunks, sizeof *own);
    int failed = !own || (mode == GRADIENT && !memory);
    if (!failed) {
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)a->lattice.n_threads)
        for (int64_t c = 0; c < chunks; c++) {
            if (mode == GRADIENT) own[c] = make_private(&whole, memory + c * size);
            run_chunk(&whole, mode, c * samples, (c + 1) * samples < n ? (c + 1) * samples : n, &own[c]);
        }
        for (int64_t c = 0; mode == GRADIENT && c < chunks; c++) merge_private(&whole, &own[c]);
    }
    free_plan(&whole.plan);
    free(memory);
    free(own);
    return failed;
}

int JOIN(nbt_pixel_sum_value, SUFFIX)(const struct pixel_sum_args *a) { return run(a, VALUE); }

int JOIN(nbt_pixel_sum_gradient, SUFFIX)(const struct pixel_sum_args *a) {
    clear_gradients(&a->lattice);
    return run(a, GRADIENT);
}
