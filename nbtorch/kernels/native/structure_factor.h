/* F_cell at the lanes of a tile: the nearest reflection, or 4-point Lagrange in three axes; and its derivatives. */
#ifndef NBTORCH_STRUCTURE_FACTOR_H
#define NBTORCH_STRUCTURE_FACTOR_H

#include "tile.h"

/* Where one sample lies in the table for tricubic interpolation. */
struct corner {
    int64_t position;                 /* of the neighbourhood's first corner */
    double weight[3][4], slope[3][4]; /* Lagrange weights of the points −1, 0, 1, 2, and their derivatives */
};

/* Whether the 4×4×4 neighbourhood of lane i lies in the table; fills `c` if so. */
static int find_corner(const struct lattice_args *a, const struct tile *t, int i, struct corner *c) {
    c->position = 0;
    for (int axis = 0; axis < 3; axis++) {
        double x = t->hkl[axis][i], low = floor(x), from_first = low - (double)a->first[axis];
        if (!(from_first >= 1.0 && from_first <= (double)(a->count[axis] - 3))) return 0;
        c->position = c->position * a->count[axis] + (int64_t)from_first - 1;
        x -= low;
        double *w = c->weight[axis], *d = c->slope[axis];
        w[0] = -x * (x - 1) * (x - 2) / 6;
        w[1] = (x + 1) * (x - 1) * (x - 2) / 2;
        w[2] = -(x + 1) * x * (x - 2) / 2;
        w[3] = (x + 1) * x * (x - 1) / 6;
        d[0] = -(3 * x * x - 6 * x + 2) / 6;
        d[1] = (3 * x * x - 4 * x - 1) / 2;
        d[2] = -(3 * x * x - 2 * x - 2) / 2;
        d[3] = (3 * x * x - 1) / 6;
    }
    return 1;
}

/* Interpolated value of `table`, and its derivatives to h, k, l when `slope` is not NULL. */
static double interpolate(const struct lattice_args *a, const double *table, const struct corner *c, double *slope) {
    double value = 0.0, dh = 0.0, dk = 0.0, dl = 0.0;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const double *line = table + c->position + (i * a->count[1] + j) * a->count[2];
            double along = 0.0, along_slope = 0.0;
            for (int k = 0; k < 4; k++) {
                along += c->weight[2][k] * line[k];
                along_slope += c->slope[2][k] * line[k];
            }
            value += c->weight[0][i] * c->weight[1][j] * along;
            dh += c->slope[0][i] * c->weight[1][j] * along;
            dk += c->weight[0][i] * c->slope[1][j] * along;
            dl += c->weight[0][i] * c->weight[1][j] * along_slope;
        }
    if (slope) {
        slope[0] = dh;
        slope[1] = dk;
        slope[2] = dl;
    }
    return value;
}

/* `table` (amplitudes or a tangent of them) at lane i; `outside` where the table does not reach. */
static double table_value(const struct lattice_args *a, const struct tile *t, const double *table, double outside,
                          int i, double *slope) {
    struct corner c;
    if (a->interpolation == TRICUBIC && find_corner(a, t, i, &c)) return interpolate(a, table, &c, slope);
    return t->position[i] >= 0 ? table[t->position[i]] : outside;
}

/* F_cell of every lane, and with `slopes` its derivative to the index. */
static void load_amplitudes(const struct plan *plan, struct tile *t, int begin, int end, int slopes) {
    const struct lattice_args *a = plan->args;
    if (a->interpolation == NEAREST) {
        for (int i = begin; i < end; i++)
            t->amplitude[i] = (REAL)(t->position[i] >= 0 ? a->table[t->position[i]] : a->default_F);
        return;
    }
    for (int i = begin; i < end; i++) {
        double slope[3] = {0.0, 0.0, 0.0};
        t->amplitude[i] = (REAL)table_value(a, t, a->table, a->default_F, i, slopes ? slope : 0);
        for (int axis = 0; axis < 3; axis++) t->amplitude_slope[axis][i] = (REAL)slope[axis];
    }
}

/* d(intensity)/dF = 2F·|f|², from intensity = F²·|f|². */
static inline REAL amplitude_gradient(const struct tile *t, int i) {
    REAL f = t->amplitude[i];
    return f != R(0) ? R(2) * t->intensity[i] / f : R(0);
}

/* What the slope of an interpolated F adds to the derivative of the intensity. */
static void add_amplitude_slope(struct tile *t, int begin, int end) {
    for (int axis = 0; axis < 3; axis++)
        for (int i = begin; i < end; i++) t->slope[axis][i] += amplitude_gradient(t, i) * t->amplitude_slope[axis][i];
}

/* Add dL/dF of every lane to the gradient of the table. */
static void scatter_table_gradient(const struct plan *plan, struct tile *t, double weight, double *grad_table,
                                   int begin, int end) {
    const struct lattice_args *a = plan->args;
    for (int i = begin; i < end; i++) {
        struct corner c;
        double g = weight * (double)t->grad[i] * (double)amplitude_gradient(t, i);
        if (a->interpolation == TRICUBIC && find_corner(a, t, i, &c)) {
            for (int x = 0; x < 4; x++)
                for (int y = 0; y < 4; y++)
                    for (int z = 0; z < 4; z++)
                        grad_table[c.position + (x * a->count[1] + y) * a->count[2] + z] +=
                            g * c.weight[0][x] * c.weight[1][y] * c.weight[2][z];
        } else if (t->position[i] >= 0) {
            grad_table[t->position[i]] += g;
        }
    }
}

#endif
