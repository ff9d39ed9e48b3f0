/* Reverse mode of the rays: from dL/d(diffracted), dL/d(weight) to every argument, recomputed tile by tile. */
#ifndef NBTORCH_RAY_GRADIENT_H
#define NBTORCH_RAY_GRADIENT_H

#include "ray_factors.h"

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
    for (int64_t i = 0; to && i < n; i++) to[i] += from[i];
}

static void merge_sums(const struct ray_args *a, double *memory) {
    struct ray_inputs sums = chunk_sums(a, memory);
    add_to(a->grad.frame, sums.frame, 12 * a->n_panels);
    add_to(a->grad.pixel_size, sums.pixel_size, 2 * a->n_panels);
    add_to(a->grad.absorption, sums.absorption, a->n_panels);
    add_to(a->grad.incident, sums.incident, 3 * a->n_sources);
    add_to(a->grad.along_e, sums.along_e, 3 * a->n_sources);
    add_to(a->grad.along_b, sums.along_b, 3 * a->n_sources);
    add_to(a->grad.kahn, sums.kahn, 1);
    if (a->oversample) add_to(a->grad.layer_step, sums.layer_step, a->n_panels);
}

/* Whether any gradient of what describes the sources is wanted. */
static int wants_sources(const struct ray_args *a) {
    return a->grad.incident || a->grad.along_e || a->grad.along_b || a->grad.kahn;
}

/* dL/d(d·incident), dL/d(d·E), dL/d(d·B) of a lane whose weight has the gradient c·(polarization). */
static inline struct along polarization_slopes(struct along d, double kahn, double c) {
    struct along slopes = {c * d.incident, -c * kahn * d.e, c * kahn * d.b};
    return slopes;
}

/* One source: its polarization, and what it sends to the ray. */
static void add_rays_of_source(const struct ray_args *a, const struct ray_tile *t, int64_t s, const double *grad,
                               struct ray_grads *g) {
    const double kahn = *a->in.kahn;
    double axes[9];
    if (!a->polarized) {
        FOR_LANES(i) g->product[i] += grad[i];
        return;
    }
    load_axes(a, s, axes);
    FOR_LANES(i) {
        struct along d = along_axes(t, axes, i);
        struct along to = polarization_slopes(d, kahn, grad[i] * t->capture[i] * t->omega[i]);
        g->product[i] += grad[i] * polarization(d, kahn);
        g->diffracted[0][i] += to.incident * axes[0] + to.e * axes[3] + to.b * axes[6];
        g->diffracted[1][i] += to.incident * axes[1] + to.e * axes[4] + to.b * axes[7];
        g->diffracted[2][i] += to.incident * axes[2] + to.e * axes[5] + to.b * axes[8];
    }
}

/* And what it sends to its own vectors. */
static void add_source(const struct ray_args *a, const struct ray_tile *t, int64_t s, const double *grad,
                       struct ray_inputs sums) {
    const double kahn = *a->in.kahn;
    double axes[9], k = 0, i0 = 0, i1 = 0, i2 = 0, e0 = 0, e1 = 0, e2 = 0, b0 = 0, b1 = 0, b2 = 0;
    if (!a->polarized) return;
    load_axes(a, s, axes);
#pragma omp simd reduction(+ : i0, i1, i2, e0, e1, e2, b0, b1, b2, k)
    for (int i = 0; i < LANES; i++) {
        double x = t->diffracted[0][i], y = t->diffracted[1][i], z = t->diffracted[2][i];
        double c = grad[i] * t->capture[i] * t->omega[i];
        struct along d = along_axes(t, axes, i), to = polarization_slopes(d, kahn, c);
        i0 += to.incident * x, i1 += to.incident * y, i2 += to.incident * z;
        e0 += to.e * x, e1 += to.e * y, e2 += to.e * z;
        b0 += to.b * x, b1 += to.b * y, b2 += to.b * z;
        k -= 0.5 * c * (d.e * d.e - d.b * d.b);
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
    if (!t->has_sensor) {
        for (int j = 0; j < 3; j++) FOR_LANES(i) g->panel[6 + j][i] = 0.0;
        FOR_LANES(i) g->panel[14][i] = depth[i] = layer[i] = 0.0;
        return;
    }
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

/* dL/d(position) of lane i, and dL/d(close·area): through direction and solid angle. */
static inline double to_position(const struct ray_args *a, const struct ray_tile *t, const struct ray_grads *g, int i,
                                 double *p) {
    double grad = g->product[i] * t->capture[i], r = t->inverse_r[i];
    double radial = (a->point_pixel ? -2.0 : -3.0) * grad * t->omega[i] * r;
    for (int j = 0; j < 3; j++) radial -= g->diffracted[j][i] * t->diffracted[j][i] * r;
    for (int j = 0; j < 3; j++) p[j] = g->diffracted[j][i] * r + radial * t->diffracted[j][i];
    return a->point_pixel ? 0.0 : grad * r * r * r;
}

/* From the position to each lane's panel and place. */
static void through_position(const struct ray_args *a, const struct ray_tile *t, struct ray_grads *g, double *fast,
                             double *slow, double *depth) {
    const double(*v)[LANES] = t->of_panel.value;
    FOR_LANES(i) {
        double p[3], cubed = to_position(a, t, g, i, p), to_close = cubed * v[12][i] * v[13][i];
        double to_along = 0.0, to_down = 0.0, to_depth = 0.0;
        for (int j = 0; j < 3; j++) {
            to_along += p[j] * v[j][i];
            to_down += p[j] * v[3 + j][i];
            to_depth += p[j] * v[6 + j][i];
            g->panel[j][i] = p[j] * t->fast[i] * v[12][i];
            g->panel[3 + j][i] = p[j] * t->slow[i] * v[13][i];
            g->panel[6 + j][i] += p[j] * t->depth[i] + to_close * v[9 + j][i];
            g->panel[9 + j][i] = p[j] + to_close * v[6 + j][i];
        }
        fast[i] = to_along * v[12][i];
        slow[i] = to_down * v[13][i];
        depth[i] += to_depth;
        g->panel[12][i] = to_along * t->fast[i] + cubed * v[13][i] * t->close[i];
        g->panel[13][i] = to_down * t->slow[i] + cubed * v[12][i] * t->close[i];
    }
}

/* The same where one panel fills the tile: Σ of p, p·fast, p·slow and p·index say all there is to say of it. */
static void through_one_panel(const struct ray_args *a, const struct ray_tile *t, const struct ray_grads *g,
                              struct ray_inputs sums) {
    double p0 = 0, p1 = 0, p2 = 0, f0 = 0, f1 = 0, f2 = 0, s0 = 0, s1 = 0, s2 = 0, c = 0, z0 = 0, z1 = 0, z2 = 0;
#pragma omp simd reduction(+ : p0, p1, p2, f0, f1, f2, s0, s1, s2, c)
    for (int i = 0; i < LANES; i++) {
        double p[3], fast = t->fast[i], slow = t->slow[i];
        c += to_position(a, t, g, i, p);
        p0 += p[0], p1 += p[1], p2 += p[2];
        f0 += p[0] * fast, f1 += p[1] * fast, f2 += p[2] * fast;
        s0 += p[0] * slow, s1 += p[1] * slow, s2 += p[2] * slow;
    }
    if (a->layers > 1) {
#pragma omp simd reduction(+ : z0, z1, z2)
        for (int i = 0; i < LANES; i++) {
            double p[3], index = t->index[i];
            to_position(a, t, g, i, p);
            z0 += p[0] * index, z1 += p[1] * index, z2 += p[2] * index;
        }
    }
    int64_t n = t->panel[0];
    const double *v = a->in.frame + 12 * n, *size = a->in.pixel_size + 2 * n, step = a->in.layer_step[n];
    const double p[3] = {p0, p1, p2}, f[3] = {f0, f1, f2}, s[3] = {s0, s1, s2}, z[3] = {z0, z1, z2};
    double *to = sums.frame + 12 * n, to_close = c * size[0] * size[1];
    double to_fast = c * size[1] * t->close[0], to_slow = c * size[0] * t->close[0];
    for (int j = 0; j < 3; j++) {
        to[j] += f[j] * size[0], to[3 + j] += s[j] * size[1];
        to[6 + j] += z[j] * step + to_close * v[9 + j], to[9 + j] += p[j] + to_close * v[6 + j];
        to_fast += f[j] * v[j], to_slow += s[j] * v[3 + j];
        sums.layer_step[n] += z[j] * v[6 + j];
    }
    sums.pixel_size[2 * n] += to_fast, sums.pixel_size[2 * n + 1] += to_slow;
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

/* Every source is in `g`: on to the panels and the samples. */
static void finish_tile(const struct ray_args *a, const struct ray_tile *t, struct ray_inputs sums,
                        struct ray_grads *g) {
    double fast[LANES], slow[LANES], depth[LANES], layer[LANES];
    if (a->oversample && t->of_panel.uniform >= 0) {
        if (t->has_sensor) {
            through_capture(t, g, depth, layer);
            for (int j = 6; j < 9; j++) add_panel_value(t, g->panel[j], sums.frame + j, 12);
            add_panel_value(t, g->panel[14], sums.absorption, 1);
            FOR_LANES(i) layer[i] += depth[i] * t->index[i];
            add_panel_value(t, layer, sums.layer_step, 1);
        }
        through_one_panel(a, t, g, sums);
        return;
    }
    through_capture(t, g, depth, layer);
    through_position(a, t, g, fast, slow, depth);
    for (int j = 0; j < 12; j++) add_panel_value(t, g->panel[j], sums.frame + j, 12);
    for (int j = 0; j < 2; j++) add_panel_value(t, g->panel[12 + j], sums.pixel_size + j, 2);
    add_panel_value(t, g->panel[14], sums.absorption, 1);
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

static void add_ray_gradient(const struct ray_args *a, const struct ray_tile *t, struct ray_inputs sums) {
    struct ray_grads g;
    double grad[LANES];
    memset(g.product, 0, sizeof g.product);
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < LANES; i++)
            g.diffracted[j][i] = i < t->lanes ? a->grad_diffracted[3 * (t->start + i) + j] : 0.0;
    for (int64_t s = 0; s < a->n_sources; s++) {
        for (int i = 0; i < LANES; i++)
            grad[i] = i < t->lanes ? a->grad_weight[(t->start + i) * a->n_sources + s] : 0.0;
        add_rays_of_source(a, t, s, grad, &g);
        add_source(a, t, s, grad, sums);
    }
    finish_tile(a, t, sums, &g);
}

#endif
