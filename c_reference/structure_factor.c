/* F_cell(h,k,l): a dense grid, read at the nearest index or by tricubic interpolation. */
#include "nanobragg.h"

#include <math.h>

/* Index ranges are bounded by the readers, so these differences cannot overflow. */
void factors_allocate(Factors *t) {
    double cells = 1.0;
    for (int i = 0; i < 3; i++) {
        t->n[i] = (size_t)(t->max[i] - t->min[i] + 1);
        cells *= (double)t->n[i];
    }
    t->values = allocate(cells, sizeof(double), "the structure factor table");
    for (size_t i = 0; i < (size_t)cells; i++) t->values[i] = t->default_F;
}

double *factors_at(const Factors *t, int h, int k, int l) {
    size_t i = (size_t)(h - t->min[0]), j = (size_t)(k - t->min[1]), m = (size_t)(l - t->min[2]);
    return &t->values[(i * t->n[1] + j) * t->n[2] + m];
}

void factors_build(Factors *t, const Options *o, const Crystal *c) {
    int small = c->n[0] <= 2.0 || c->n[1] <= 2.0 || c->n[2] <= 2.0;
    t->default_F = o->default_F;
    t->values = NULL;
    if (o->hkl_file != NULL) {
        read_hkl_text(t, o->hkl_file);
        if (o->dump_file != NULL) write_dump(t, o->dump_file);
    } else if (o->dump_file != NULL) {
        read_dump(t, o->dump_file);
    }
    /* Peaks of a crystal of one or two cells are so wide that the step between two indices would show. */
    t->interpolate = o->interpolate == INTERPOLATE_ON || (o->interpolate == INTERPOLATE_AUTO && small);
    if (t->values == NULL) t->interpolate = 0;
}

/* Compared as doubles: an index far outside must not be cast to an int first. */
static int inside(const Factors *t, const double *low, double width) {
    for (int i = 0; i < 3; i++)
        if (!(low[i] >= t->min[i] && low[i] + width <= t->max[i])) return 0;
    return 1;
}

/* The four Lagrange weights on nodes -1, 0, 1, 2 at 0 <= x < 1. */
static void lagrange(double x, double *w) {
    w[0] = -x * (x - 1.0) * (x - 2.0) / 6.0;
    w[1] = (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0;
    w[2] = -(x + 1.0) * x * (x - 2.0) / 2.0;
    w[3] = (x + 1.0) * x * (x - 1.0) / 6.0;
}

static double tricubic(const Factors *t, const double *low, const double *hkl) {
    double w[3][4], sum = 0.0;
    for (int i = 0; i < 3; i++) lagrange(hkl[i] - (low[i] + 1.0), w[i]);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const double *line = factors_at(t, (int)low[0] + i, (int)low[1] + j, (int)low[2]);
            for (int k = 0; k < 4; k++) sum += w[0][i] * w[1][j] * w[2][k] * line[k];
        }
    return sum;
}

/* Tricubic where the 4x4x4 neighbourhood lies in the table, else nearest, sample by sample. */
double structure_factor(const Factors *t, const Term *term) {
    if (t->values == NULL) return t->default_F;
    if (t->interpolate) {
        double low[3];
        for (int i = 0; i < 3; i++) low[i] = floor(term->hkl[i]) - 1.0;
        if (inside(t, low, 3.0)) return tricubic(t, low, term->hkl);
    }
    if (!inside(t, term->nearest, 0.0)) return t->default_F;
    return *factors_at(t, (int)term->nearest[0], (int)term->nearest[1], (int)term->nearest[2]);
}
