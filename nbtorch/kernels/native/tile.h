/* A tile: LANES scattering vectors that are taken through one orientation at a time, and what is kept for each. */
#ifndef NBTORCH_TILE_H
#define NBTORCH_TILE_H

#include "lattice.h"
#include "vector_math.h"

#define LANES 64
#define GROUP 8             /* lanes that culling takes or leaves together */
#define FLUSH_EVERY 64      /* orientations summed in REAL before they are added to the double sums */
#define FOR_LANES(i, begin, end) _Pragma("omp simd") for (int i = (begin); i < (end); i++)

/* What is the same for every tile. Factors are taken relative to the peak, Na·Nb·Nc, so that float never overflows. */
struct plan {
    const struct lattice_args *args;
    REAL n[3], inverse_n[3];  /* square: N, at least 1 (an axis with N ≤ 1 is left out) */
    REAL twice[3];            /* square: 2, or 0 for an axis left out, whose slope is exactly 0 */
    REAL metric[6];           /* symmetric part: aa, bb, cc, ab, ac, bc */
    double scale;             /* of a sum over peak-relative terms: (Na·Nb·Nc)²·max|weight|, … */
    double largest_weight, largest_grad;
    int wants_shape;          /* the derivatives to N, the metric and the orientations' weights */
    double cutoff;            /* culling: least ρ² of a group that can be left out; INFINITY when off */
    double *largest_axes;     /* culling: see culling.h; freed with free_plan */
    double bound[3], axis_bound[3]; /* ρ² ≥ Σ bound·δ², ρ² ≥ max axis_bound·δ² */
};

struct tile {
    int lanes;                   /* how many of LANES are real; the rest repeat the last one with grad 0 */
    int64_t pixel[LANES], source[LANES];
    double q[3][LANES];          /* (diffracted − incident)/λ, Å⁻¹ */
    REAL q_real[3][LANES];
    REAL grad[LANES];            /* dL/d(value), relative to the largest; 0 where dmin culls */
    double kept[LANES];          /* 1, or 0 where dmin culls */

    /* of the orientation at hand */
    double hkl[3][LANES];
    REAL offset[3][LANES];       /* δ = hkl − nearest */
    int32_t position[LANES];     /* in the flattened table; −1 outside */
    REAL amplitude[LANES];       /* F_cell */
    REAL amplitude_slope[3][LANES];
    REAL intensity[LANES];       /* |F_cell|²·|f|² */
    REAL slope[3][LANES];        /* its derivative to h, k, l */
    REAL n_slope[3][LANES];      /* square: to N, times N/2·… see shapes.h; else of ρ²: n_slope[0] = d(intensity)/dρ² */

    /* summed over orientations */
    REAL sum[LANES], sum_q[3][LANES];
    double total[LANES], total_q[3][LANES];
};

static inline void clear(double *x, int64_t n) { memset(x, 0, (size_t)n * sizeof *x); }

static inline int has_table(const struct lattice_args *a) { return a->table != 0; }

/* q of diffracted rays (which may be t->q itself) that source s lights. */
static void scatter(const struct lattice_args *a, struct tile *t, const double diffracted[3][LANES], int64_t s) {
    const double w = 1.0 / a->wavelength[s], *in = a->incident + 3 * s, x = in[0], y = in[1], z = in[2];
    FOR_LANES(i, 0, LANES) {
        t->q[0][i] = (diffracted[0][i] - x) * w;
        t->q[1][i] = (diffracted[1][i] - y) * w;
        t->q[2][i] = (diffracted[2][i] - z) * w;
    }
}

/* One source: pixels follow each other, and all lanes see the same beam. Lanes past the end repeat the last. */
static void load_pixels(const struct lattice_args *a, struct tile *t, int64_t start) {
    const double *from = a->diffracted + 3 * start;
    for (int i = 0; i < t->lanes; i++) {
        t->pixel[i] = start + i;
        t->q[0][i] = from[3 * i], t->q[1][i] = from[3 * i + 1], t->q[2][i] = from[3 * i + 2];
    }
    for (int i = t->lanes; i < LANES; i++) {
        t->pixel[i] = start + t->lanes - 1;
        for (int j = 0; j < 3; j++) t->q[j][i] = t->q[j][t->lanes - 1];
    }
    for (int i = 0; i < LANES; i++) t->source[i] = 0; /* memset would be `rep stos` */
    scatter(a, t, (const double(*)[LANES])t->q, 0);
}

/* Several sources, innermost: which pixel and source each lane is, and their vectors. */
static void load_pairs(const struct lattice_args *a, struct tile *t, int64_t start) {
    double in[3][LANES], inverse[LANES];
    int64_t pixel = start / a->n_sources, source = start % a->n_sources;
    for (int i = 0; i < LANES; i++) {
        t->pixel[i] = pixel;
        t->source[i] = source;
        if (i < t->lanes - 1 && ++source == a->n_sources) {
            source = 0;
            pixel++;
        }
    }
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < LANES; i++) {
            t->q[j][i] = a->diffracted[3 * t->pixel[i] + j];
            in[j][i] = a->incident[3 * t->source[i] + j];
        }
    for (int i = 0; i < LANES; i++) inverse[i] = a->wavelength[t->source[i]];
    FOR_LANES(i, 0, LANES) {
        double w = 1.0 / inverse[i];
        t->q[0][i] = (t->q[0][i] - in[0][i]) * w;
        t->q[1][i] = (t->q[1][i] - in[1][i]) * w;
        t->q[2][i] = (t->q[2][i] - in[2][i]) * w;
    }
}

/* Ready to sum over orientations at t->q: which lanes dmin keeps, and every sum at zero. */
static void start_tile(const struct lattice_args *a, struct tile *t, int with_slopes) {
    if (a->dmin > 0.0) {
        FOR_LANES(i, 0, LANES) {
            double x = t->q[0][i], y = t->q[1][i], z = t->q[2][i];
            t->kept[i] = a->dmin * sqrt(x * x + y * y + z * z) <= 1.0 ? 1.0 : 0.0;
        }
    } else {
        FOR_LANES(i, 0, LANES) t->kept[i] = 1.0;
    }
    FOR_LANES(i, 0, LANES) t->amplitude[i] = R(1), t->sum[i] = R(0), t->total[i] = 0.0;
    if (!with_slopes) return;
    for (int j = 0; j < 3; j++)
        FOR_LANES(i, 0, LANES) {
            t->q_real[j][i] = (REAL)t->q[j][i];
            t->sum_q[j][i] = R(0);
            t->total_q[j][i] = 0.0;
        }
}

/* Fill q, kept and grad of the lanes that start at sample `start` (pixel-major: pixel·S + source). */
static void load_tile(const struct plan *plan, struct tile *t, int64_t start, int64_t end, int with_slopes) {
    const struct lattice_args *a = plan->args;
    t->lanes = end - start < LANES ? (int)(end - start) : LANES;
    if (a->n_sources == 1)
        load_pixels(a, t, start);
    else
        load_pairs(a, t, start);
    start_tile(a, t, with_slopes);
    if (a->grad) {
        double relative = 1.0 / plan->largest_grad;
        for (int i = 0; i < LANES; i++)
            t->grad[i] = i < t->lanes ? (REAL)(a->grad[start + i] * relative * t->kept[i]) : R(0);
    }
}

/* Add the REAL sums to the double ones: a long sum in float would lose its digits. */
static void flush_tile(struct tile *t, int with_slopes) {
    FOR_LANES(i, 0, LANES) t->total[i] += t->sum[i], t->sum[i] = R(0);
    if (!with_slopes) return;
    for (int j = 0; j < 3; j++) FOR_LANES(i, 0, LANES) t->total_q[j][i] += t->sum_q[j][i], t->sum_q[j][i] = R(0);
}

/* δ of orientation `b` (rows a, b, c). The only place where an index is differenced: always in double. */
static void locate(struct tile *t, const double *b, int begin, int end) {
    FOR_LANES(i, begin, end) {
        double x = t->q[0][i], y = t->q[1][i], z = t->q[2][i];
        double h = b[0] * x + b[1] * y + b[2] * z;
        double k = b[3] * x + b[4] * y + b[5] * z;
        double l = b[6] * x + b[7] * y + b[8] * z;
        t->offset[0][i] = (REAL)(h - NEAREST_REFLECTION(h));
        t->offset[1][i] = (REAL)(k - NEAREST_REFLECTION(k));
        t->offset[2][i] = (REAL)(l - NEAREST_REFLECTION(l));
    }
}

/* As locate, and also the fractional index and the position of the nearest reflection in the table. */
static void locate_in_table(const struct plan *plan, struct tile *t, const double *b, int begin, int end) {
    const struct lattice_args *a = plan->args;
    double first[3], last[3], stride[3] = {(double)(a->count[1] * a->count[2]), (double)a->count[2], 1.0};
    for (int axis = 0; axis < 3; axis++) {
        first[axis] = (double)a->first[axis];
        last[axis] = (double)(a->first[axis] + a->count[axis] - 1);
    }
    FOR_LANES(i, begin, end) {
        double x = t->q[0][i], y = t->q[1][i], z = t->q[2][i];
        double h = b[0] * x + b[1] * y + b[2] * z;
        double k = b[3] * x + b[4] * y + b[5] * z;
        double l = b[6] * x + b[7] * y + b[8] * z;
        double h0 = NEAREST_REFLECTION(h), k0 = NEAREST_REFLECTION(k), l0 = NEAREST_REFLECTION(l);
        t->hkl[0][i] = h;
        t->hkl[1][i] = k;
        t->hkl[2][i] = l;
        t->offset[0][i] = (REAL)(h - h0);
        t->offset[1][i] = (REAL)(k - k0);
        t->offset[2][i] = (REAL)(l - l0);
        int inside = (h0 >= first[0]) & (h0 <= last[0]) & (k0 >= first[1]) & (k0 <= last[1]) & (l0 >= first[2]) &
                     (l0 <= last[2]);
        double position = (h0 - first[0]) * stride[0] + (k0 - first[1]) * stride[1] + (l0 - first[2]);
        t->position[i] = (int32_t)(inside ? position : -1.0);
    }
}

#endif
