/* Forward mode of the rays: one tangent at a time over a tile whose values are at hand. */
#ifndef NBTORCH_RAY_TANGENTS_H
#define NBTORCH_RAY_TANGENTS_H

#include "ray_factors.h"

struct ray_dots {
    double diffracted[3][LANES];
    double product[LANES]; /* of capture·omega */
};

/* The samples themselves move: those of a grid with the thickness of the layers. */
static void move_samples(const struct ray_args *a, const struct ray_tile *t, int64_t n, double *fast, double *slow,
                         double *depth, double *layer) {
    int64_t start = n * a->n_samples + t->start;
    load_lanes(a->dot.fast, start, t->lanes, fast);
    load_lanes(a->dot.slow, start, t->lanes, slow);
    load_lanes(a->dot.depth, start, t->lanes, depth);
    load_lanes(a->dot.layer, start, t->lanes, layer);
    if (!a->dot.layer_step) return;
    for (int i = 0; i < LANES; i++) {
        layer[i] = a->dot.layer_step[n * a->n_panels + t->panel[i]];
        depth[i] = t->index[i] * layer[i];
    }
}

/* Position, direction, solid angle and capture move. */
static void move_rays(const struct ray_args *a, const struct ray_tile *t, const struct panel_lanes *dot, int64_t n,
                      struct ray_dots *to) {
    const double(*v)[LANES] = t->of_panel.value, (*w)[LANES] = dot->value;
    const double solid = a->point_pixel ? 0.0 : 1.0, power = a->point_pixel ? -2.0 : -3.0;
    double fast[LANES], slow[LANES], depth[LANES], layer[LANES];
    move_samples(a, t, n, fast, slow, depth, layer);
    FOR_LANES(i) {
        double along = t->fast[i] * v[12][i], down = t->slow[i] * v[13][i], r = t->inverse_r[i];
        double along_dot = fast[i] * v[12][i] + t->fast[i] * w[12][i];
        double down_dot = slow[i] * v[13][i] + t->slow[i] * w[13][i];
        double position[3], radial = 0.0, close_dot = 0.0, parallax_dot = 0.0;
        for (int j = 0; j < 3; j++) {
            position[j] = along_dot * v[j][i] + along * w[j][i] + down_dot * v[3 + j][i] + down * w[3 + j][i] +
                          depth[i] * v[6 + j][i] + t->depth[i] * w[6 + j][i] + w[9 + j][i];
            radial += position[j] * t->diffracted[j][i];
            close_dot += w[9 + j][i] * v[6 + j][i] + v[9 + j][i] * w[6 + j][i];
        }
        for (int j = 0; j < 3; j++) {
            double d = (position[j] - radial * t->diffracted[j][i]) * r;
            to->diffracted[j][i] = d;
            parallax_dot += d * v[6 + j][i] + t->diffracted[j][i] * w[6 + j][i];
        }
        double area = v[12][i] * v[13][i], area_dot = w[12][i] * v[13][i] + v[12][i] * w[13][i];
        double omega_dot = solid * r * r * r * (area_dot * t->close[i] + area * close_dot) +
                           power * t->omega[i] * radial * r;
        if (!t->has_sensor) {
            to->product[i] = t->capture[i] * omega_dot;
            continue;
        }
        double path_dot = (w[14][i] - t->path[i] * parallax_dot) * t->inverse_parallax[i];
        double capture_dot = path_dot * (t->layer[i] * t->behind[i] - t->depth[i] * t->capture[i]) -
                             t->path[i] * t->capture[i] * depth[i] + t->path[i] * t->behind[i] * layer[i];
        capture_dot = v[14][i] > 0.0 ? capture_dot : 0.0;
        to->product[i] = capture_dot * t->omega[i] + t->capture[i] * omega_dot;
    }
}

static double dot_or_zero(const double *dot, int64_t i) { return dot ? dot[i] : 0.0; }

/* Polarization of source s moves with the ray and with the source. */
static void store_source_tangent(const struct ray_args *a, const struct ray_tile *t, const struct ray_dots *dots,
                                 int64_t n, int64_t s) {
    const double *in = a->in.incident + 3 * s, *e = a->in.along_e + 3 * s, *b = a->in.along_b + 3 * s;
    double in_dot[3], e_dot[3], b_dot[3], kahn = *a->in.kahn, kahn_dot = dot_or_zero(a->dot.kahn, n), result[LANES];
    for (int j = 0; j < 3; j++) {
        int64_t at = 3 * (n * a->n_sources + s) + j;
        in_dot[j] = dot_or_zero(a->dot.incident, at);
        e_dot[j] = dot_or_zero(a->dot.along_e, at);
        b_dot[j] = dot_or_zero(a->dot.along_b, at);
    }
    double polarized = a->polarized ? 1.0 : 0.0;
    FOR_LANES(i) {
        double x = t->diffracted[0][i], y = t->diffracted[1][i], z = t->diffracted[2][i];
        double dx = dots->diffracted[0][i], dy = dots->diffracted[1][i], dz = dots->diffracted[2][i];
        double cosine = x * in[0] + y * in[1] + z * in[2];
        double of_e = x * e[0] + y * e[1] + z * e[2], of_b = x * b[0] + y * b[1] + z * b[2];
        double cosine_dot = dx * in[0] + dy * in[1] + dz * in[2] + x * in_dot[0] + y * in_dot[1] + z * in_dot[2];
        double of_e_dot = dx * e[0] + dy * e[1] + dz * e[2] + x * e_dot[0] + y * e_dot[1] + z * e_dot[2];
        double of_b_dot = dx * b[0] + dy * b[1] + dz * b[2] + x * b_dot[0] + y * b_dot[1] + z * b_dot[2];
        double difference = of_e * of_e - of_b * of_b;
        double polar = 0.5 * (1.0 + cosine * cosine - kahn * difference);
        double polar_dot = cosine * cosine_dot - 0.5 * kahn_dot * difference - kahn * (of_e * of_e_dot - of_b * of_b_dot);
        polar = polarized * polar + (1.0 - polarized);
        result[i] = dots->product[i] * polar + t->capture[i] * t->omega[i] * polarized * polar_dot;
    }
    for (int i = 0; i < t->lanes; i++)
        a->dot_weight[(n * a->n_samples + t->start + i) * a->n_sources + s] = result[i];
}

static void store_ray_tangent(const struct ray_args *a, const struct ray_tile *t, struct panel_lanes *dot, int64_t n) {
    struct ray_dots dots;
    load_panels(&a->dot, n * a->n_panels, t->panel, dot);
    move_rays(a, t, dot, n, &dots);
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < t->lanes; i++)
            a->dot_diffracted[3 * (n * a->n_samples + t->start + i) + j] = dots.diffracted[j][i];
    for (int64_t s = 0; s < a->n_sources; s++) store_source_tangent(a, t, &dots, n, s);
}

#endif
