/* LANES samples of the detector: where they lie, and the factors that do not depend on the source. */
#ifndef NBTORCH_RAY_TILE_H
#define NBTORCH_RAY_TILE_H

#include "rays.h"
#include "vector_math.h"

#define LANES 64
#define FOR_LANES(i) _Pragma("omp simd") for (int i = 0; i < LANES; i++)
#define PANEL_VALUES 15 /* fast, slow, normal, origin; pixel size (fast, slow); absorption */

/* Of the panels, one value a lane: [0, 12) frame rows, 12 and 13 pixel size, 14 absorption. */
struct panel_lanes {
    int64_t uniform; /* the panel that fills every lane, −1 for none */
    double value[PANEL_VALUES][LANES];
};

struct ray_tile {
    int lanes; /* how many of LANES are real; the rest repeat the last one */
    int64_t start, panel[LANES];
    struct panel_lanes of_panel;
    double fast[LANES], slow[LANES], depth[LANES], layer[LANES];
    double index[LANES]; /* of a grid: which layer */
    double position[3][LANES], diffracted[3][LANES]; /* mm; unit */
    double inverse_r[LANES];                         /* 1/airpath, 1/mm */
    double close[LANES], omega[LANES];               /* close distance, mm; solid angle */
    double path[LANES], inverse_parallax[LANES];     /* µ/parallax, 1/mm */
    double capture[LANES], behind[LANES];            /* absorbed fraction; what is left behind the layer */
};

/* Spread `in`'s panel values over the lanes; nothing to do when one panel fills this tile and the last. */
static void load_panels(const struct ray_inputs *in, int64_t offset, const int64_t *panel, struct panel_lanes *to) {
    int uniform = 1;
    for (int i = 1; i < LANES; i++) uniform &= panel[i] == panel[0];
    if (uniform && to->uniform == panel[0] + offset) return;
    to->uniform = uniform ? panel[0] + offset : -1;
    for (int j = 0; j < PANEL_VALUES; j++) {
        const double *from = j < 12 ? in->frame : j < 14 ? in->pixel_size : in->absorption;
        int64_t stride = j < 12 ? 12 : j < 14 ? 2 : 1, column = j < 12 ? j : j < 14 ? j - 12 : 0;
        if (uniform || !from) {
            double value = from ? from[stride * to->uniform + column] : 0.0;
            FOR_LANES(i) to->value[j][i] = value;
        } else {
            for (int i = 0; i < LANES; i++) to->value[j][i] = from[stride * (panel[i] + offset) + column];
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

/* The grid of one sample a pixel: its centre. */
static void load_centres(const struct ray_args *a, struct ray_tile *t) {
    for (int i = 0; i < LANES; i++) {
        int64_t pixel = t->start + (i < t->lanes ? i : t->lanes - 1);
        t->panel[i] = a->panel[pixel];
        t->slow[i] = (double)a->slow[pixel] + 0.5;
        t->fast[i] = (double)a->fast[pixel] + 0.5;
    }
    for (int i = 0; i < LANES; i++) t->layer[i] = a->in.layer_step[t->panel[i]];
    FOR_LANES(i) t->index[i] = t->depth[i] = 0.0;
}

/* The samples of a grid: layer, slow sub-pixel, fast sub-pixel, the last innermost, of one pixel after the other. */
static void load_grid(const struct ray_args *a, struct ray_tile *t) {
    if (a->layers * a->oversample == 1) {
        load_centres(a, t);
        return;
    }
    int64_t n = a->oversample, each = a->layers * n * n, pixel = t->start / each, rest = t->start % each;
    int64_t layer = rest / (n * n), down = rest % (n * n) / n, along = rest % n;
    double of_slow[LANES], of_fast[LANES], size = (double)n;
    for (int i = 0; i < LANES; i++) {
        t->panel[i] = a->panel[pixel];
        t->slow[i] = (double)a->slow[pixel], of_slow[i] = (double)down;
        t->fast[i] = (double)a->fast[pixel], of_fast[i] = (double)along;
        t->index[i] = (double)layer;
        if (i >= t->lanes - 1) continue; /* lanes past the end repeat the last */
        if (++along < n) continue;
        along = 0;
        if (++down < n) continue;
        down = 0;
        if (++layer < a->layers) continue;
        layer = 0;
        pixel++;
    }
    for (int i = 0; i < LANES; i++) t->layer[i] = a->in.layer_step[t->panel[i]];
    FOR_LANES(i) {
        t->slow[i] += (of_slow[i] + 0.5) / size;
        t->fast[i] += (of_fast[i] + 0.5) / size;
        t->depth[i] = t->index[i] * t->layer[i];
    }
}

/* The samples as they are listed. */
static void load_listed(const struct ray_args *a, struct ray_tile *t) {
    for (int i = 0; i < LANES; i++) t->panel[i] = a->panel[t->start + (i < t->lanes ? i : t->lanes - 1)];
    load_lanes(a->in.fast, t->start, t->lanes, t->fast);
    load_lanes(a->in.slow, t->start, t->lanes, t->slow);
    load_lanes(a->in.depth, t->start, t->lanes, t->depth);
    load_lanes(a->in.layer, t->start, t->lanes, t->layer);
}

/* capture = e^(−depth·µ/parallax) − e^(−(depth + layer)·µ/parallax); 1 without a sensor. */
static void find_capture(struct ray_tile *t) {
    const double(*v)[LANES] = t->of_panel.value;
    int sensor = 0;
    for (int i = 0; i < LANES; i++) sensor |= v[14][i] > 0.0;
    if (!sensor) {
        FOR_LANES(i) t->inverse_parallax[i] = t->path[i] = t->behind[i] = 0.0, t->capture[i] = 1.0;
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

static void load_ray_tile(const struct ray_args *a, struct ray_tile *t, int64_t start, int64_t end) {
    t->start = start;
    t->lanes = end - start < LANES ? (int)(end - start) : LANES;
    if (a->oversample)
        load_grid(a, t);
    else
        load_listed(a, t);
    load_panels(&a->in, 0, t->panel, &t->of_panel);
    const double(*v)[LANES] = t->of_panel.value;
    int point = a->point_pixel != 0;
    FOR_LANES(i) {
        double along = t->fast[i] * v[12][i], down = t->slow[i] * v[13][i], z = t->depth[i];
        double x0 = along * v[0][i] + down * v[3][i] + z * v[6][i] + v[9][i];
        double x1 = along * v[1][i] + down * v[4][i] + z * v[7][i] + v[10][i];
        double x2 = along * v[2][i] + down * v[5][i] + z * v[8][i] + v[11][i];
        double inverse = 1.0 / sqrt(x0 * x0 + x1 * x1 + x2 * x2);
        double close = v[9][i] * v[6][i] + v[10][i] * v[7][i] + v[11][i] * v[8][i];
        t->position[0][i] = x0, t->position[1][i] = x1, t->position[2][i] = x2;
        t->diffracted[0][i] = x0 * inverse, t->diffracted[1][i] = x1 * inverse, t->diffracted[2][i] = x2 * inverse;
        t->inverse_r[i] = inverse;
        t->close[i] = close;
        double solid = v[12][i] * v[13][i] * close * (inverse * inverse * inverse);
        t->omega[i] = point ? 1e6 * (inverse * inverse) : solid; /* nanoBragg: a point pixel's is in 1/m² */
    }
    find_capture(t);
}

/* ½(1 + cos²2θ − K[(d·E)² − (d·B)²]) of lane i. Kahn et al. 1982, without a division. */
static inline double polarization(const struct ray_tile *t, const double *in, const double *e, const double *b,
                                  double kahn, int i) {
    double x = t->diffracted[0][i], y = t->diffracted[1][i], z = t->diffracted[2][i];
    double cosine = x * in[0] + y * in[1] + z * in[2];
    double along_e = x * e[0] + y * e[1] + z * e[2], along_b = x * b[0] + y * b[1] + z * b[2];
    return 0.5 * (1.0 + cosine * cosine - kahn * (along_e * along_e - along_b * along_b));
}

#endif
