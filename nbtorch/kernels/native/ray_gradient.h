/* Reverse mode of the rays: from dL/d(diffracted), dL/d(weight) to every argument, recomputed tile by tile. */
#ifndef NBTORCH_RAY_GRADIENT_H
#define NBTORCH_RAY_GRADIENT_H

#include "ray_tile.h"

/* Doubles of a chunk's private sums: what many samples share. */
static int64_t sums_size(const struct ray_args *a) { return (PANEL_VALUES + 1) * a->n_panels + 9 * a->n_sources + 1; }

static struct ray_inputs chunk_sums(const struct ray_args *a, double *memory) {
    struct ray_inputs sums = {.frame = memory};
    sums.pixel_size = sums.frame + 12 * a->n_panels;
    sums.absorption = sums.pixel_size + 2 * a->n_panels;
    sums.incident = sums.absorption + a->n_panels;
    sums.along_e = sums.incident + 3 * a->n_sources;
    sums.along_b = sums.along_e + 3 * a->n_sources;
    sums.kahn = sums.along_b + 3 * a->n_sources;
    sums.layer_step = sums.kahn + 1;
    return sums;
}

static void add_to(double *to, const double *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

static void merge_sums(const struct ray_args *a, double *memory) {
    struct ray_inputs sums = chunk_sums(a, memory);
    add_to(a->grad.frame, sums.frame, 12 * a->n_panels);
    add_to(a->grad.pixel_size, sums.pixel_size, 2 * a->n_panels);
    add_to(a->grad.absorption, sums.absorption, a->n_panels);
    add_to(a->grad.incident, sums.incident, 3 * a->n_sources);
    add_to(a->grad.along_e, sums.along_e, 3 * a->n_sources);
    add_to(a->grad.along_b, sums.along_b, 3 * a->n_sources);
    *a->grad.kahn += *sums.kahn;
    if (a->oversample) add_to(a->grad.layer_step, sums.layer_step, a->n_panels);
}

struct ray_grads {
    double diffracted[3][LANES]; /* dL/d(diffracted) */
    double product[LANES];       /* dL/d(capture·omega) */
    double panel[PANEL_VALUES][LANES];
};

/* One source: its polarization, and what it sends to the ray and to its own vectors. */
static void add_source(const struct ray_args *a, const struct ray_tile *t, int64_t s, struct ray_inputs sums,
                       struct ray_grads *g) {
    double grad[LANES], kahn = *a->in.kahn, k = 0;
    double i0 = 0, i1 = 0, i2 = 0, e0 = 0, e1 = 0, e2 = 0, b0 = 0, b1 = 0, b2 = 0;
    for (int i = 0; i < LANES; i++)
        grad[i] = i < t->lanes ? a->grad_weight[(t->start + i) * a->n_sources + s] : 0.0;
    if (!a->polarized) {
        FOR_LANES(i) g->product[i] += grad[i];
        return;
    }
    const double *in = a->in.incident + 3 * s, *e = a->in.along_e + 3 * s, *b = a->in.along_b + 3 * s;
#pragma omp simd reduction(+ : i0, i1, i2, e0, e1, e2, b0, b1, b2, k)
    for (int i = 0; i < LANES; i++) {
        double x = t->diffracted[0][i], y = t->diffracted[1][i], z = t->diffracted[2][i];
        double cosine = x * in[0] + y * in[1] + z * in[2];
        double of_e = x * e[0] + y * e[1] + z * e[2], of_b = x * b[0] + y * b[1] + z * b[2];
        double difference = of_e * of_e - of_b * of_b, c = grad[i] * t->capture[i] * t->omega[i];
        g->product[i] += grad[i] * 0.5 * (1.0 + cosine * cosine - kahn * difference);
        double gi = c * cosine, ge = -c * kahn * of_e, gb = c * kahn * of_b;
        g->diffracted[0][i] += gi * in[0] + ge * e[0] + gb * b[0];
        g->diffracted[1][i] += gi * in[1] + ge * e[1] + gb * b[1];
        g->diffracted[2][i] += gi * in[2] + ge * e[2] + gb * b[2];
        i0 += gi * x, i1 += gi * y, i2 += gi * z;
        e0 += ge * x, e1 += ge * y, e2 += ge * z;
        b0 += gb * x, b1 += gb * y, b2 += gb * z;
        k -= 0.5 * c * difference;
    }
    double *to_in = sums.incident + 3 * s, *to_e = sums.along_e + 3 * s, *to_b = sums.along_b + 3 * s;
    to_in[0] += i0, to_in[1] += i1, to_in[2] += i2;
    to_e[0] += e0, to_e[1] += e1, to_e[2] += e2;
    to_b[0] += b0, to_b[1] += b1, to_b[2] += b2;
    *sums.kahn += k;
}

/* Capture: to absorption, depth, layer, the normal and the ray. Starts g->panel and the sample gradients. */
static void through_capture(const struct ray_tile *t, struct ray_grads *g, double *depth, double *layer) {
    const double(*v)[LANES] = t->of_panel.value;
    FOR_LANES(i) {
        double grad = g->product[i] * t->omega[i], sensor = v[14][i] > 0.0 ? 1.0 : 0.0;
        double to_path = sensor * grad * (t->layer[i] * t->behind[i] - t->depth[i] * t->capture[i]);
        double to_parallax = -to_path * t->path[i] * t->inverse_parallax[i];
        depth[i] = -sensor * grad * t->path[i] * t->capture[i];
        layer[i] = grad * t->path[i] * t->behind[i];
        g->panel[14][i] = to_path * t->inverse_parallax[i];
        for (int j = 0; j < 3; j++) {
            g->panel[6 + j][i] = to_parallax * t->diffracted[j][i];
            g->diffracted[j][i] += to_parallax * v[6 + j][i];
        }
    }
}

/* Solid angle and direction: to the position, and with it to the frame and the sample's place. */
static void through_position(const struct ray_args *a, const struct ray_tile *t, struct ray_grads *g, double *fast,
                             double *slow, double *depth) {
    const double(*v)[LANES] = t->of_panel.value;
    const double power = a->point_pixel ? -2.0 : -3.0, solid = a->point_pixel ? 0.0 : 1.0;
    FOR_LANES(i) {
        double grad = g->product[i] * t->capture[i], r = t->inverse_r[i], cubed = solid * grad * r * r * r;
        double to_close = cubed * v[12][i] * v[13][i];
        double radial = power * grad * t->omega[i] * r;
        for (int j = 0; j < 3; j++) radial -= g->diffracted[j][i] * t->diffracted[j][i] * r;
        double to_along = 0.0, to_down = 0.0, to_depth = 0.0;
        for (int j = 0; j < 3; j++) {
            double p = g->diffracted[j][i] * r + radial * t->diffracted[j][i];
            to_along += p * v[j][i];
            to_down += p * v[3 + j][i];
            to_depth += p * v[6 + j][i];
            g->panel[j][i] = p * t->fast[i] * v[12][i];
            g->panel[3 + j][i] = p * t->slow[i] * v[13][i];
            g->panel[6 + j][i] += p * t->depth[i] + to_close * v[9 + j][i];
            g->panel[9 + j][i] = p + to_close * v[6 + j][i];
        }
        fast[i] = to_along * v[12][i];
        slow[i] = to_down * v[13][i];
        depth[i] += to_depth;
        g->panel[12][i] = to_along * t->fast[i] + cubed * v[13][i] * t->close[i];
        g->panel[13][i] = to_down * t->slow[i] + cubed * v[12][i] * t->close[i];
    }
}

static void add_panel_value(const struct ray_tile *t, const double *value, double *to, int64_t stride) {
    if (t->of_panel.uniform < 0) {
        for (int i = 0; i < t->lanes; i++) to[stride * t->panel[i]] += value[i];
        return;
    }
    double sum = 0.0; /* lanes past the end have grad 0 */
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < LANES; i++) sum += value[i];
    to[stride * t->panel[0]] += sum;
}

static void add_ray_gradient(const struct ray_args *a, const struct ray_tile *t, struct ray_inputs sums) {
    struct ray_grads g;
    double fast[LANES], slow[LANES], depth[LANES], layer[LANES];
    memset(g.product, 0, sizeof g.product);
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < LANES; i++)
            g.diffracted[j][i] = i < t->lanes ? a->grad_diffracted[3 * (t->start + i) + j] : 0.0;
    for (int64_t s = 0; s < a->n_sources; s++) add_source(a, t, s, sums, &g);
    through_capture(t, &g, depth, layer);
    through_position(a, t, &g, fast, slow, depth);
    for (int j = 0; j < 12; j++) add_panel_value(t, g.panel[j], sums.frame + j, 12);
    for (int j = 0; j < 2; j++) add_panel_value(t, g.panel[12 + j], sums.pixel_size + j, 2);
    add_panel_value(t, g.panel[14], sums.absorption, 1);
    if (a->oversample) {
        FOR_LANES(i) layer[i] += depth[i] * t->index[i];
        add_panel_value(t, layer, sums.layer_step, 1);
        return;
    }
    size_t bytes = (size_t)t->lanes * sizeof(double);
    memcpy(a->grad.fast + t->start, fast, bytes);
    memcpy(a->grad.slow + t->start, slow, bytes);
    memcpy(a->grad.depth + t->start, depth, bytes);
    memcpy(a->grad.layer + t->start, layer, bytes);
}

#endif
