/* Where there is light: the reflections that reach a few neighbouring samples, found before anything is computed there.
 *
 * A reflection reaches as far as an ellipsoid of δ, taken in the middle of the samples and a little too large. In
 * coordinates g = U·h that make it a sphere of radius 1, the lattice points within 1 of the samples' box are few.
 */
#ifndef NBTORCH_PROFILE_LIT_H
#define NBTORCH_PROFILE_LIT_H

#include "profile_ray.h"
#include "ray_factors.h"

#define BLOCK 512
#define MOST_LIT 2048
#define MARGIN 1.1         /* of the ellipsoid's square: widths change over the samples of a segment */
#define WIDEST 64.0        /* pixels along fast of a segment, so that the middle stands for all */
#define HIGHEST 16.0       /* and along slow */

/* Samples of the detector that follow each other, and segments of them: near each other on one panel. */
struct block {
    int64_t start;
    int n, segments, first[BLOCK + 1];
    struct ray_tile tile; /* where samples of a pixel lie, and the panel of the last tile, kept for the next */
    double diffracted[3][BLOCK + LANES], fast[BLOCK], slow[BLOCK], index[BLOCK];
    int64_t panel[BLOCK];
};

/* Reflections seen from samples of a block: all of one panel, source and piece. */
struct lit {
    int n, sample[MOST_LIT];
    double reflection[3][MOST_LIT];
};

static void find_segments(struct block *b) {
    double low[2] = {0, 0}, high[2] = {0, 0};
    b->segments = 0;
    for (int i = 0; i < b->n; i++) {
        double x = b->fast[i], y = b->slow[i];
        int first = b->segments ? b->first[b->segments - 1] : 0, joins = b->segments > 0;
        joins &= i - first < LANES && b->panel[i] == b->panel[first];
        joins &= fmax(high[0], x) - fmin(low[0], x) < WIDEST && fmax(high[1], y) - fmin(low[1], y) < HIGHEST;
        if (!joins) {
            b->first[b->segments++] = i;
            low[0] = high[0] = x, low[1] = high[1] = y;
        }
        low[0] = fmin(low[0], x), high[0] = fmax(high[0], x);
        low[1] = fmin(low[1], y), high[1] = fmax(high[1], y);
    }
    b->first[b->segments] = b->n;
}

static void load_block(const struct ray_args *rays, struct block *b, int64_t start, int64_t end) {
    struct ray_tile *t = &b->tile;
    b->start = start;
    b->n = end - start < BLOCK ? (int)(end - start) : BLOCK;
    for (int first = 0; first < b->n; first += LANES) {
        t->start = start + first;
        t->lanes = b->n - first < LANES ? b->n - first : LANES;
        load_grid(rays, t, end);
        const double(*v)[LANES] = t->of_panel.value;
        FOR_LANES(i) {
            double along = t->fast[i] * v[12][i], down = t->slow[i] * v[13][i], z = t->depth[i];
            double x0 = along * v[0][i] + down * v[3][i] + z * v[6][i] + v[9][i];
            double x1 = along * v[1][i] + down * v[4][i] + z * v[7][i] + v[10][i];
            double x2 = along * v[2][i] + down * v[5][i] + z * v[8][i] + v[11][i];
            double inverse = 1.0 / sqrt(x0 * x0 + x1 * x1 + x2 * x2);
            b->diffracted[0][first + i] = x0 * inverse;
            b->diffracted[1][first + i] = x1 * inverse;
            b->diffracted[2][first + i] = x2 * inverse;
            b->fast[first + i] = t->fast[i], b->slow[first + i] = t->slow[i], b->index[first + i] = t->index[i];
            b->panel[first + i] = t->panel[i];
        }
    }
    find_segments(b);
}

/* A segment as one source and piece see it. */
struct seen {
    int n;                            /* samples; the vectors are filled up with the last */
    double upper[3][3];               /* U, upper triangular: UᵀU is the inverse of the ellipsoid's matrix */
    int tight[3];                     /* whether the ellipsoid reaches beyond what is summed */
    double low[3], high[3];           /* of g */
    V hkl[3][LANES / WIDTH], g[3][LANES / WIDTH];
};

/* The ellipsoid of δ that a reflection reaches: of Σ at `cut` of its peak, and of the range that the spindle sweeps,
 * both within (1 + 1/p)·A + (1 + p)·B for any p. */
static void find_ellipsoid(const struct profile_args *a, const struct linear *at, const struct spreads *c,
                           const struct choices *o, double ellipsoid[3][3]) {
    const double square = MARGIN * -2.0 * log(a->cut), half = 0.5 * fabs(a->span);
    M3 total, inverse;
    V3 sweep, pull;
    covariance(at, c, o, total);
    times(c->basis, at->spindle, sweep);
    double add_total = square, add_sweep = 0.0;
    if (half > 0.0) {
        invert(total, inverse);
        times(inverse, sweep, pull);
        double width = sqrt(square / fmax(dot(sweep, pull)[0], 1e-300)), p = width / half;
        add_total = square * (1.0 + 1.0 / p), add_sweep = half * half * (1.0 + p);
    }
    EVERY(i, j) ellipsoid[i][j] = add_total * total[i][j][0] + add_sweep * sweep[i][0] * sweep[j][0];
}

/* U of the inverse of the symmetric `m`: m = R·Rᵀ with R upper triangular, U = R⁻¹. */
static void invert_triangle(double m[3][3], double u[3][3]) {
    double r22 = sqrt(m[2][2]), r12 = m[1][2] / r22, r02 = m[0][2] / r22;
    double r11 = sqrt(m[1][1] - r12 * r12), r01 = (m[0][1] - r02 * r12) / r11;
    double r00 = sqrt(m[0][0] - r01 * r01 - r02 * r02);
    u[0][0] = 1.0 / r00, u[1][1] = 1.0 / r11, u[2][2] = 1.0 / r22;
    u[0][1] = -r01 * u[0][0] * u[1][1], u[1][2] = -r12 * u[1][1] * u[2][2];
    u[0][2] = (r01 * r12 * u[1][1] - r02) * u[0][0] * u[2][2];
    u[1][0] = u[2][0] = u[2][1] = 0.0;
}

/* h and g of every sample; a sample beyond dmin is out of every reflection's reach. */
static void find_indices(const struct profile_args *a, const struct block *b, const struct numbers *n, int first,
                         struct seen *s) {
    const V inverse = 1.0 / n->wavelength, infinite = all(INFINITY);
    V3 low = {infinite, infinite, infinite}, high = {-infinite, -infinite, -infinite};
    for (int v = 0; v * WIDTH < s->n; v++) {
        V3 q, hkl;
        Mask there = lane_number() + (int64_t)v * WIDTH < (Mask){0} + s->n;
        EACH(j) {
            memcpy(&q[j], b->diffracted[j] + first + v * WIDTH, sizeof(V));
            q[j] = (q[j] - n->incident[j]) * inverse;
        }
        times(n->basis, q, hkl);
        there &= a->dmin * a->dmin * dot(q, q) <= all(1.0);
        EACH(i) {
            s->hkl[i][v] = hkl[i];
            V g = s->upper[i][0] * hkl[0] + s->upper[i][1] * hkl[1] + s->upper[i][2] * hkl[2];
            s->g[i][v] = where(there, g, infinite); /* what is not there is out of every reflection's reach */
            low[i] = where(there, smaller(low[i], g), low[i]), high[i] = where(there, larger(high[i], g), high[i]);
        }
    }
    for (int i = 0; i < 3; i++) {
        s->low[i] = INFINITY, s->high[i] = -INFINITY;
        for (int l = 0; l < WIDTH; l++) s->low[i] = fmin(s->low[i], low[i][l]), s->high[i] = fmax(s->high[i], high[i][l]);
    }
}

static void see(const struct profile_args *a, const struct block *b, const struct numbers *n, const struct spreads *c,
                const struct choices *o, int segment, struct seen *s) {
    int first = b->first[segment], middle = (first + b->first[segment + 1]) / 2;
    struct ray ray = {.fast = all(b->fast[middle]), .slow = all(b->slow[middle]), .index = all(b->index[middle])};
    struct place place;
    struct directions directions;
    struct linear at;
    double ellipsoid[3][3];
    s->n = b->first[segment + 1] - first;
    find_position(n, &ray, place.position);
    memcpy(place.incident, n->incident, sizeof(V3)), memcpy(place.spindle, n->spindle, sizeof(V3));
    place.wavelength = n->wavelength;
    linear_here(&place, o, &directions, &at);
    if (a->cut > 0.0) {
        find_ellipsoid(a, &at, c, o, ellipsoid);
        invert_triangle(ellipsoid, s->upper);
        for (int i = 0; i < 3; i++) s->tight[i] = !(sqrt(ellipsoid[i][i]) <= (double)a->reach[i] + 0.5);
    } else {
        memset(s->upper, 0, sizeof s->upper);
        for (int i = 0; i < 3; i++) s->tight[i] = 1;
    }
    find_indices(a, b, n, first, s);
}

/* Which samples of vector v the reflection n reaches, c = U·n: within the ellipsoid, and among those that are summed. */
static inline Mask reached(const struct profile_args *a, const struct seen *s, const double *n, const double *c, int v) {
    const double shift = 6755399441055744.0; /* 1.5·2^52: adding it leaves the nearest integer */
    V square = all(0.0);
    EACH(i) square += (s->g[i][v] - c[i]) * (s->g[i][v] - c[i]);
    Mask found = square <= all(1.0);
    EACH(i) {
        if (!s->tight[i]) continue;
        V h = s->hkl[i][v], nearest = (h + shift) - shift;
        nearest = where(h - nearest == all(-0.5), nearest - 1.0, nearest); /* nanoBragg: ties go down */
        found &= magnitude(nearest - n[i]) <= all((double)a->reach[i]);
    }
    return found;
}

/* Adds the samples that the reflection reaches; there is room for a segment. */
static void list_reflection(const struct profile_args *a, const struct seen *s, const double *n, int first,
                            struct lit *to) {
    double c[3];
    for (int i = 0; i < 3; i++) c[i] = s->upper[i][0] * n[0] + s->upper[i][1] * n[1] + s->upper[i][2] * n[2];
    for (int v = 0; v * WIDTH < s->n; v++) {
        Mask found = reached(a, s, n, c, v);
        if (!any_lane(found)) continue;
        for (int i = 0; i < WIDTH && v * WIDTH + i < s->n; i++) {
            if (!found[i]) continue;
            to->sample[to->n] = first + v * WIDTH + i;
            for (int j = 0; j < 3; j++) to->reflection[j][to->n] = n[j];
            to->n++;
        }
    }
}

/* From and to which index along `axis` a reflection is near the samples, the indices of later axes in n. Where nothing
 * is cut, from the samples' indices. */
static void index_range(const struct profile_args *a, const struct seen *s, int axis, const double *n, double *from,
                        double *to) {
    double u = s->upper[axis][axis], rest = 0.0;
    if (a->cut > 0.0) {
        for (int j = axis + 1; j < 3; j++) rest += s->upper[axis][j] * n[j];
        *from = ceil((s->low[axis] - 1.0 - rest) / u), *to = floor((s->high[axis] + 1.0 - rest) / u);
        return;
    }
    double low = INFINITY, high = -INFINITY;
    for (int v = 0; v * WIDTH < s->n; v++)
        for (int l = 0; l < WIDTH; l++) low = fmin(low, s->hkl[axis][v][l]), high = fmax(high, s->hkl[axis][v][l]);
    *from = floor(low - (double)a->reach[axis]) - 1.0, *to = ceil(high + (double)a->reach[axis]) + 1.0;
}

#endif
