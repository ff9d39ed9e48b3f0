/* All numbers of a term in lanes, where its sample lies, what weight its ray has, and the way back. */
#ifndef NBTORCH_PROFILE_RAY_H
#define NBTORCH_PROFILE_RAY_H

#include "profile.h"
#include "profile_term.h"

/* In the order of struct profile_inputs; also the layout of the gradient. */
struct numbers {
    V3 fast, slow, normal, origin;
    V pixel_size[2], absorption, layer;
    V3 incident, along_e, along_b;
    V kahn, source_weight, wavelength, bandwidth;
    M3 divergence, basis, mosaic;
    V3 spindle;
    M3 intrinsic;
    V3 cell;
    V pixel, scale;
};
#define N_NUMBERS ((int)(sizeof(struct numbers) / sizeof(V)))

/* Of each field: how many numbers, and what counts it. */
enum counted { BY_PANEL, BY_SOURCE, BY_PIECE, ONCE };
static const struct {
    int size;
    enum counted by;
} FIELD[PROFILE_FIELDS] = {{12, BY_PANEL}, {2, BY_PANEL},  {1, BY_PANEL},  {1, BY_PANEL},  {3, BY_SOURCE},
                           {3, BY_SOURCE}, {3, BY_SOURCE}, {1, ONCE},      {1, BY_SOURCE}, {1, BY_SOURCE},
                           {1, BY_SOURCE}, {9, BY_SOURCE}, {9, BY_PIECE},  {9, BY_PIECE},  {3, ONCE},
                           {9, ONCE},      {3, ONCE},      {1, ONCE},      {1, ONCE}};

/* Which panel, source and piece a term is of; the last is 0, for what there is once. */
struct which {
    int64_t index[4];
};

/* The numbers of one term, from the arrays of `in` or one of their tangents. */
static void load_numbers(const struct profile_args *a, const struct profile_inputs *in, struct which w, int64_t tangent,
                         double *to) {
    const int64_t counts[4] = {a->n_panels, a->n_sources, a->n_pieces, 1};
    double *const *from = (double *const *)in;
    for (int f = 0; f < PROFILE_FIELDS; f++) {
        int64_t size = FIELD[f].size, by = FIELD[f].by;
        for (int64_t j = 0; j < size; j++)
            *to++ = from[f] ? from[f][(tangent * counts[by] + w.index[by]) * size + j] : 0.0;
    }
}

/* The same numbers, where they are added up: arrays one behind the other, as `offset` says. */
static void add_numbers(const struct numbers *sums, struct which w, const int64_t *offset, double *to) {
    const V *from = (const V *)sums;
    for (int f = 0; f < PROFILE_FIELDS; f++)
        for (int64_t j = 0; j < FIELD[f].size; j++)
            to[offset[f] + w.index[FIELD[f].by] * FIELD[f].size + j] += sum_lanes(*from++);
}

/* The spreads among the numbers; a pixel's variance becomes one in mm². */
static void find_spreads(const struct numbers *n, struct spreads *to) {
    memcpy(to->basis, n->basis, sizeof(M3)), memcpy(to->mosaic, n->mosaic, sizeof(M3));
    memcpy(to->divergence, n->divergence, sizeof(M3)), memcpy(to->intrinsic, n->intrinsic, sizeof(M3));
    memcpy(to->cell, n->cell, sizeof(V3));
    to->bandwidth = n->bandwidth;
    clear_matrix(to->place);
    add_outer(to->place, n->pixel * n->pixel_size[0] * n->pixel_size[0], n->fast, n->fast);
    add_outer(to->place, n->pixel * n->pixel_size[1] * n->pixel_size[1], n->slow, n->slow);
}

static inline void spreads_back(const struct numbers *n, const struct spreads *g, struct numbers *to) {
    V3 along, down;
    add_matrix(to->basis, all(1.0), g->basis), add_matrix(to->mosaic, all(1.0), g->mosaic);
    add_matrix(to->divergence, all(1.0), g->divergence), add_matrix(to->intrinsic, all(1.0), g->intrinsic);
    add(to->cell, all(1.0), g->cell);
    to->bandwidth += g->bandwidth;
    times(g->place, n->fast, along), times(g->place, n->slow, down);
    V fast = n->pixel_size[0], slow = n->pixel_size[1], of_fast = dot(along, n->fast), of_slow = dot(down, n->slow);
    to->pixel += of_fast * fast * fast + of_slow * slow * slow;
    to->pixel_size[0] += 2.0 * n->pixel * fast * of_fast, to->pixel_size[1] += 2.0 * n->pixel * slow * of_slow;
    add(to->fast, 2.0 * n->pixel * fast * fast, along), add(to->slow, 2.0 * n->pixel * slow * slow, down);
}

/* A sample: where in its panel, in which layer; and the factors of its ray's weight. */
struct ray {
    V fast, slow, index, depth;
    V omega, capture, polarized, weight;
    V parallax, path, before, lost, cosine, e, b;
};

static inline void find_position(const struct numbers *n, struct ray *r, V3 position) {
    V along = r->fast * n->pixel_size[0], down = r->slow * n->pixel_size[1];
    r->depth = r->index * n->layer;
    EACH(i) position[i] = along * n->fast[i] + down * n->slow[i] + r->depth * n->normal[i] + n->origin[i];
}

/* capture·solid angle·polarization: docs/physics.md §2, §4. A panel without a sensor captures all. */
static inline void find_weight(const struct profile_args *a, const struct numbers *n, const struct directions *d,
                               struct ray *r) {
    V inverse = 1.0 / d->distance, one = all(1.0);
    r->omega = a->point_pixel ? 1e6 * inverse * inverse
                              : n->pixel_size[0] * n->pixel_size[1] * dot(n->origin, n->normal) * inverse * inverse * inverse;
    r->capture = r->polarized = one;
    if (n->absorption[0] > 0.0) {
        r->parallax = dot(d->diffracted, n->normal);
        r->path = n->absorption / r->parallax;
        r->before = exp_lanes(-r->depth * r->path);
        r->lost = expm1_lanes(-n->layer * r->path);
        r->capture = -r->before * r->lost;
    }
    if (a->polarized) {
        r->cosine = dot(d->diffracted, n->incident);
        r->e = dot(d->diffracted, n->along_e), r->b = dot(d->diffracted, n->along_b);
        r->polarized = 0.5 * (1.0 + r->cosine * r->cosine - n->kahn * (r->e * r->e - r->b * r->b));
    }
    r->weight = r->capture * r->omega * r->polarized;
}

/* dL/d(weight) = `grad` to the numbers, to the direction and (returned) to the distance; depth's own in `of_depth`. */
static inline V weight_back(const struct profile_args *a, const struct numbers *n, const struct directions *d,
                            const struct ray *r, V grad, struct numbers *to, V3 of_direction, V *of_depth) {
    V of_omega = grad * r->capture * r->polarized, inverse = 1.0 / d->distance;
    *of_depth = all(0.0);
    if (!a->point_pixel) {
        V cubed = of_omega * inverse * inverse * inverse, close = dot(n->origin, n->normal);
        V of_close = cubed * n->pixel_size[0] * n->pixel_size[1];
        to->pixel_size[0] += cubed * close * n->pixel_size[1], to->pixel_size[1] += cubed * close * n->pixel_size[0];
        add(to->origin, of_close, n->normal), add(to->normal, of_close, n->origin);
    }
    if (n->absorption[0] > 0.0) {
        V c = grad * r->omega * r->polarized * r->before, left = 1.0 + r->lost;
        V of_path = c * (r->depth * r->lost + n->layer * left), of_parallax = -of_path * r->path / r->parallax;
        *of_depth = c * r->path * r->lost;
        to->layer += c * r->path * left;
        to->absorption += of_path / r->parallax;
        add(of_direction, of_parallax, n->normal), add(to->normal, of_parallax, d->diffracted);
    }
    if (a->polarized) {
        V c = grad * r->capture * r->omega, of_e = -c * n->kahn * r->e, of_b = c * n->kahn * r->b, of_i = c * r->cosine;
        to->kahn -= 0.5 * c * (r->e * r->e - r->b * r->b);
        add(of_direction, of_i, n->incident), add(of_direction, of_e, n->along_e), add(of_direction, of_b, n->along_b);
        add(to->incident, of_i, d->diffracted), add(to->along_e, of_e, d->diffracted);
        add(to->along_b, of_b, d->diffracted);
    }
    return (a->point_pixel ? -2.0 : -3.0) * of_omega * r->omega * inverse;
}

static inline void position_back(const struct numbers *n, const struct ray *r, const V3 grad, V of_depth,
                                 struct numbers *to) {
    V of_fast = dot(grad, n->fast), of_slow = dot(grad, n->slow);
    of_depth += dot(grad, n->normal);
    add(to->fast, r->fast * n->pixel_size[0], grad), add(to->slow, r->slow * n->pixel_size[1], grad);
    add(to->normal, r->depth, grad), add(to->origin, all(1.0), grad);
    to->pixel_size[0] += r->fast * of_fast, to->pixel_size[1] += r->slow * of_slow;
    to->layer += r->index * of_depth;
}

#endif
