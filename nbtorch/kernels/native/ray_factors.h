/* Where the samples of a tile lie, their solid angle, capture and polarization. */
#ifndef NBTORCH_RAY_FACTORS_H
#define NBTORCH_RAY_FACTORS_H

#include "ray_tile.h"
#include "vector_math.h"

#define FOR_LANES(i) _Pragma("omp simd") for (int i = 0; i < LANES; i++)

/* Where value j of the panels stands in `in`. */
static const double *panel_value(const struct ray_inputs *in, int j, int64_t *stride) {
    *stride = j < 12 ? 12 : j < 14 ? 2 : 1;
    const double *from = j < 12 ? in->frame : j < 14 ? in->pixel_size : in->absorption;
    return from ? from + (j < 12 ? j : j < 14 ? j - 12 : 0) : 0;
}

/* Spread `in`'s panel values over the lanes; nothing to do when one panel fills this tile and the last. */
static void load_panels(const struct ray_inputs *in, int64_t offset, const int64_t *panel, struct panel_lanes *to) {
    int64_t differs = 0, stride;
#pragma omp simd reduction(| : differs)
    for (int i = 1; i < LANES; i++) differs |= panel[i] ^ panel[0];
    if (!differs && to->uniform == panel[0] + offset) return;
    to->uniform = differs ? -1 : panel[0] + offset;
    for (int j = 0; j < PANEL_VALUES; j++) {
        const double *from = panel_value(in, j, &stride);
        if (!differs || !from) {
            double value = from ? from[stride * to->uniform] : 0.0;
            FOR_LANES(i) to->value[j][i] = value;
        } else {
            for (int i = 0; i < LANES; i++) to->value[j][i] = from[stride * (panel[i] + offset)];
        }
    }
}

static void load_lanes(const double *from, int64_t start, int lanes, double *to) {
    if (!from) {
        memset(to, 0, LANES * sizeof *to);
        return;
    }
    memcpy(to, from + start, (size_t)lanes * sizeof *to);
    for (int i = lanes; i < LANES; i++) to[i] = to[lanes - 1];
}

/* n ≥ 0 as a double: its bits are the low ones of 2^52 + n. No vector unit before AVX-512 converts 64-bit integers. */
static inline double of_index(int64_t n) {
    double shifted;
    n += 0x4330000000000000;
    memcpy(&shifted, &n, sizeof shifted);
    return shifted - 4503599627370496.0;
}

/* The thickness of a layer in each lane, once its panel is known. */
static void load_layers(const struct ray_args *a, struct ray_tile *t) {
    double first = a->in.layer_step[t->panel[0]];
    if (t->of_panel.uniform >= 0) {
        FOR_LANES(i) t->layer[i] = first;
    } else {
        for (int i = 0; i < LANES; i++) t->layer[i] = a->in.layer_step[t->panel[i]];
    }
}

/* The grid of one sample a pixel: its centre. */
static void load_centres(const struct ray_args *a, struct ray_tile *t) {
    const int64_t *panel = a->panel + t->start, *slow = a->slow + t->start, *fast = a->fast + t->start;
    int64_t last[3][LANES];
    if (t->lanes < LANES) { /* lanes past the end repeat the last */
        for (int i = 0; i < LANES; i++) {
            int from = i < t->lanes ? i : t->lanes - 1;
            last[0][i] = panel[from], last[1][i] = slow[from], last[2][i] = fast[from];
        }
        panel = last[0], slow = last[1], fast = last[2];
    }
    FOR_LANES(i) {
        t->panel[i] = panel[i];
        t->slow[i] = of_index(slow[i]) + 0.5;
        t->fast[i] = of_index(fast[i]) + 0.5;
        t->index[i] = t->depth[i] = 0.0;
    }
}

/* Where `n` samples of a pixel lie in it, from its sample `first`: layer, slow sub-pixel, fast sub-pixel, the last
 * innermost. */
static void lay_out(const struct ray_args *a, struct ray_tile *t, int64_t first, int64_t n) {
    int64_t over = a->oversample, layer = first / (over * over), down = first % (over * over) / over;
    int64_t along = first % over;
    for (int64_t i = 0; i < n; i++) {
        t->sub_slow[i] = ((double)down + 0.5) / (double)over;
        t->sub_fast[i] = ((double)along + 0.5) / (double)over;
        t->sub_index[i] = (double)layer;
        if (++along < over) continue;
        along = 0;
        if (++down < over) continue;
        down = 0;
        layer++;
    }
}

/* The samples of a grid, one pixel after the other; lanes past `end` repeat the last pixel. */
static void load_sub_pixels(const struct ray_args *a, struct ray_tile *t, int64_t end) {
    int64_t each = a->layers * a->oversample * a->oversample, pixel = t->start / each, rest = t->start % each;
    int64_t last = (end - 1) / each, n;
    if (each <= LANES && !t->laid_out) lay_out(a, t, 0, each);
    t->laid_out = 1;
    for (int64_t i = 0; i < LANES; i += n, rest = 0, pixel += pixel < last) {
        n = each - rest < LANES - i ? each - rest : LANES - i;
        if (each > LANES) lay_out(a, t, rest, n);
        int64_t from = each > LANES ? 0 : rest, panel = a->panel[pixel];
        double slow = (double)a->slow[pixel], fast = (double)a->fast[pixel];
        for (int64_t j = 0; j < n; j++) {
            t->panel[i + j] = panel;
            t->slow[i + j] = slow + t->sub_slow[from + j];
            t->fast[i + j] = fast + t->sub_fast[from + j];
            t->index[i + j] = t->sub_index[from + j];
        }
    }
}

static void load_grid(const struct ray_args *a, struct ray_tile *t, int64_t end) {
    if (a->layers * a->oversample == 1)
        load_centres(a, t);
    else
        load_sub_pixels(a, t, end);
    load_panels(&a->in, 0, t->panel, &t->of_panel);
    load_layers(a, t);
    if (a->layers > 1) FOR_LANES(i) t->depth[i] = t->index[i] * t->layer[i];
    else FOR_LANES(i) t->depth[i] = 0.0;
}

/* The samples as they are listed. */
static void load_listed(const struct ray_args *a, struct ray_tile *t) {
    for (int i = 0; i < LANES; i++) t->panel[i] = a->panel[t->start + (i < t->lanes ? i : t->lanes - 1)];
    load_lanes(a->in.fast, t->start, t->lanes, t->fast);
    load_lanes(a->in.slow, t->start, t->lanes, t->slow);
    load_lanes(a->in.depth, t->start, t->lanes, t->depth);
    load_lanes(a->in.layer, t->start, t->lanes, t->layer);
    load_panels(&a->in, 0, t->panel, &t->of_panel);
}

/* capture = e^(−depth·µ/parallax) − e^(−(depth + layer)·µ/parallax); 1 without a sensor. */
static void find_capture(struct ray_tile *t) {
    const double(*v)[LANES] = t->of_panel.value;
    double thickest = 0.0;
#pragma omp simd reduction(max : thickest)
    for (int i = 0; i < LANES; i++) thickest = v[14][i] > thickest ? v[14][i] : thickest;
    t->has_sensor = thickest > 0.0;
    if (!t->has_sensor) {
        FOR_LANES(i) t->capture[i] = 1.0;
        return;
    }
    FOR_LANES(i) {
        double parallax = t->diffracted[0][i] * v[6][i] + t->diffracted[1][i] * v[7][i] + t->diffracted[2][i] * v[8][i];
        t->inverse_parallax[i] = 1.0 / parallax;
        t->path[i] = v[14][i] * t->inverse_parallax[i];
    }
    FOR_LANES(i) {
        double before = exponential(-t->depth[i] * t->path[i]);
        double lost = exponential_minus_one(-t->layer[i] * t->path[i]);
        t->capture[i] = v[14][i] > 0.0 ? -before * lost : 1.0;
        t->behind[i] = v[14][i] > 0.0 ? before + before * lost : 0.0;
    }
}

/* Direction and solid angle of lane i on a panel of values v. */
static inline void place(struct ray_tile *t, int i, const double *v, int64_t point) {
    double along = t->fast[i] * v[12], down = t->slow[i] * v[13], z = t->depth[i];
    double x0 = along * v[0] + down * v[3] + z * v[6] + v[9];
    double x1 = along * v[1] + down * v[4] + z * v[7] + v[10];
    double x2 = along * v[2] + down * v[5] + z * v[8] + v[11];
    double inverse = 1.0 / sqrt(x0 * x0 + x1 * x1 + x2 * x2), close = v[9] * v[6] + v[10] * v[7] + v[11] * v[8];
    t->diffracted[0][i] = x0 * inverse, t->diffracted[1][i] = x1 * inverse, t->diffracted[2][i] = x2 * inverse;
    t->inverse_r[i] = inverse;
    t->close[i] = close;
    double solid = v[12] * v[13] * close * (inverse * inverse * inverse);
    t->omega[i] = point ? 1e6 * (inverse * inverse) : solid; /* nanoBragg: a point pixel's is in 1/m² */
}

static void load_ray_tile(const struct ray_args *a, struct ray_tile *t, int64_t start, int64_t end) {
    t->start = start;
    t->lanes = end - start < LANES ? (int)(end - start) : LANES;
    if (a->oversample)
        load_grid(a, t, end);
    else
        load_listed(a, t);
    if (t->of_panel.uniform >= 0) {
        double v[PANEL_VALUES];
        for (int j = 0; j < PANEL_VALUES; j++) v[j] = t->of_panel.value[j][0];
        FOR_LANES(i) place(t, i, v, a->point_pixel);
    } else {
        FOR_LANES(i) {
            double v[PANEL_VALUES];
            for (int j = 0; j < PANEL_VALUES; j++) v[j] = t->of_panel.value[j][i];
            place(t, i, v, a->point_pixel);
        }
    }
    find_capture(t);
}

/* A ray along the three axes of a source: its direction, E and B. */
struct along {
    double incident, e, b;
};

/* Of lane i, for the `axes` [9] of a source. */
static inline struct along along_axes(const struct ray_tile *t, const double *axes, int i) {
    double x = t->diffracted[0][i], y = t->diffracted[1][i], z = t->diffracted[2][i];
    struct along d = {x * axes[0] + y * axes[1] + z * axes[2], x * axes[3] + y * axes[4] + z * axes[5],
                      x * axes[6] + y * axes[7] + z * axes[8]};
    return d;
}

/* Copied, so that no store into a tile can be taken to change them. */
static inline void load_axes(const struct ray_args *a, int64_t s, double *axes) {
    memcpy(axes, a->in.incident + 3 * s, 3 * sizeof *axes);
    memcpy(axes + 3, a->in.along_e + 3 * s, 3 * sizeof *axes);
    memcpy(axes + 6, a->in.along_b + 3 * s, 3 * sizeof *axes);
}

/* ½(1 + cos²2θ − K[(d·E)² − (d·B)²]). Kahn et al. 1982, without a division. */
static inline double polarization(struct along d, double kahn) {
    return 0.5 * (1.0 + d.incident * d.incident - kahn * (d.e * d.e - d.b * d.b));
}

#endif
