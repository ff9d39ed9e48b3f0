/* Which groups of lanes cannot reach a stated fraction of the peak, so that they may be left out. Compact shapes only. */
#ifndef NBTORCH_CULLING_H
#define NBTORCH_CULLING_H

#include <stdlib.h>

#include "shapes.h"

#define GROUPS (LANES / GROUP)
#define ROUNDING 1e-9 /* of an index, far above what the bounds below can lose to rounding */

/* The box around each group's scattering vectors. */
struct boxes {
    double centre[3][GROUPS], half[3][GROUPS];
    double reach[3][GROUPS]; /* of an index within the box, whatever the orientation of a block */
};

/* The largest |a_x|, |a_y|, … over each block of orientations [blocks, 9], so that a box's reach is found once a block;
 * NULL when memory is short. */
static double *largest_axes(const struct lattice_args *a) {
    int64_t blocks = (a->n_orientations + FLUSH_EVERY - 1) / FLUSH_EVERY;
    double *axes = calloc((size_t)(9 * blocks), sizeof *axes);
    for (int64_t k = 0; axes && k < a->n_orientations; k++)
        for (int j = 0; j < 9; j++) {
            double *largest = axes + 9 * (k / FLUSH_EVERY) + j;
            *largest = fmax(*largest, fabs(a->basis[9 * k + j]));
        }
    return axes;
}

/* The least ρ² that is negligible, and two lower bounds of ρ² by δ: a diagonal that the metric exceeds (Gershgorin),
 * and 1/(metric⁻¹)_aa, the least ρ² at a given δ_a. */
static void plan_culling(struct plan *plan, const double *m) {
    const struct lattice_args *a = plan->args;
    plan->cutoff = INFINITY;
    if (a->culling <= 0.0 || a->culling >= 1.0 || a->n_orientations < 4) return;
    if (a->shape == GAUSSIAN) plan->cutoff = -log(a->culling) * GAUSS_WIDTH / 2.0;
    if (a->shape == TOPHAT) plan->cutoff = TOPHAT_EDGE * (1.0 + 1e-6);
    for (int i = 0; i < 3; i++) {
        int j = (i + 1) % 3, k = (i + 2) % 3;
        double sij = 0.5 * (m[3 * i + j] + m[3 * j + i]), sik = 0.5 * (m[3 * i + k] + m[3 * k + i]);
        double sjk = 0.5 * (m[3 * j + k] + m[3 * k + j]), mi = m[4 * i], mj = m[4 * j], mk = m[4 * k];
        double minor = mj * mk - sjk * sjk;
        double determinant = mi * minor - sij * (sij * mk - sjk * sik) + sik * (sij * sjk - mj * sik);
        plan->bound[i] = fmax(0.0, mi - fabs(sij) - fabs(sik));
        plan->axis_bound[i] = minor > 0.0 && determinant > 0.0 ? determinant / minor : 0.0;
    }
    if (plan->cutoff < INFINITY && !(plan->largest_axes = largest_axes(a))) plan->cutoff = INFINITY;
}

static void find_boxes(const struct tile *t, struct boxes *boxes) {
    for (int j = 0; j < 3; j++)
        for (int g = 0; g < GROUPS; g++) {
            double low = t->q[j][g * GROUP], high = low;
            for (int i = g * GROUP + 1; i < (g + 1) * GROUP; i++) {
                low = fmin(low, t->q[j][i]);
                high = fmax(high, t->q[j][i]);
            }
            boxes->centre[j][g] = 0.5 * (low + high);
            boxes->half[j][g] = 0.5 * (high - low);
        }
}

static void find_reach(struct boxes *boxes, const double *axes) {
    for (int axis = 0; axis < 3; axis++)
        for (int g = 0; g < GROUPS; g++) {
            double reach = ROUNDING;
            for (int j = 0; j < 3; j++) reach += axes[3 * axis + j] * boxes->half[j][g];
            boxes->reach[axis][g] = reach;
        }
}

/* Whether each group must be computed for orientation `b`. */
static void find_reached(const struct plan *plan, const struct boxes *boxes, const double *b, double *reached) {
    FOR_LANES(g, 0, GROUPS) {
        double sum = 0.0, largest = 0.0;
        for (int axis = 0; axis < 3; axis++) {
            double h = b[3 * axis] * boxes->centre[0][g] + b[3 * axis + 1] * boxes->centre[1][g] +
                       b[3 * axis + 2] * boxes->centre[2][g];
            double least = fabs(h - NEAREST_INTEGER(h)) - boxes->reach[axis][g];
            least = least > 0.0 ? least * least : 0.0;
            double at_axis = plan->axis_bound[axis] * least;
            sum += plan->bound[axis] * least;
            largest = at_axis > largest ? at_axis : largest;
        }
        sum = sum > largest ? sum : largest;
        reached[g] = sum < plan->cutoff ? 1.0 : 0.0;
    }
}

#endif
