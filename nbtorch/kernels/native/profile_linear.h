/* How q moves with what spreads, at a place or at a shift from it, and the way back of a gradient.
 *
 * All before the basis: h = B·(each of these). functional/profile.py has the formulas.
 */
#ifndef NBTORCH_PROFILE_LINEAR_H
#define NBTORCH_PROFILE_LINEAR_H

#include "profile_lanes.h"

/* Where the spreads are looked at from; also the layout of the gradient. */
struct place {
    V3 position, incident, spindle; /* mm, unit, unit */
    V wavelength;
};

/* Values of what spreads; also the layout of the gradient. */
struct shift {
    V3 mosaic, incident, position;
    V wavelength, spindle;
};

/* What is the same for all terms. */
struct choices {
    double span, cut;
    int iterated, divergence, place; /* whether these two spreads are there, or their gradient is wanted */
};

/* q, and its slopes in what spreads; also the layout of the gradient. */
struct linear {
    V3 q, wavelength, spindle;
    M3 mosaic, incident, position;
};

/* c·(I − aaᵀ), and the gradient of a and of c (returned) from that of the matrix. */
static inline void across(const V3 a, V c, M3 out) {
    EVERY(i, j) out[i][j] = c * ((i == j ? 1.0 : 0.0) - a[i] * a[j]);
}
static inline V across_back(const V3 a, V c, const M3 grad, V3 to) {
    V of_c = grad[0][0] + grad[1][1] + grad[2][2];
    EACH(i) {
        V both = all(0.0), one = all(0.0);
        EACH(j) one += grad[i][j] * a[j], both += (grad[i][j] + grad[j][i]) * a[j];
        to[i] -= c * both;
        of_c -= a[i] * one;
    }
    return of_c;
}

/* unit(v), its length in `length`; and dL/dv += from dL/d(unit), dL/d(length). */
static inline void unit(const V3 v, V3 out, V *length) {
    *length = root(dot(v, v));
    V inverse = 1.0 / *length;
    EACH(i) out[i] = v[i] * inverse;
}
static inline void unit_back(const V3 u, V length, const V3 grad, V of_length, V3 to) {
    V inverse = 1.0 / length, along = dot(u, grad);
    EACH(i) to[i] += (grad[i] - u[i] * along) * inverse + u[i] * of_length;
}

/* ---- at no shift --------------------------------------------------------------------------------------- */

struct directions {
    V3 diffracted;
    V distance;
};

static inline void linear_here(const struct place *p, const struct choices *o, struct directions *d,
                               struct linear *out) {
    V inverse = 1.0 / p->wavelength;
    unit(p->position, d->diffracted, &d->distance);
    EACH(i) out->q[i] = (d->diffracted[i] - p->incident[i]) * inverse;
    EACH(i) out->wavelength[i] = -out->q[i];
    skew(out->q, out->mosaic);
    if (o->divergence) across(p->incident, -inverse, out->incident);
    if (o->place) across(d->diffracted, inverse / d->distance, out->position);
    cross(out->q, p->spindle, out->spindle);
}

/* to += dL/d(place) from `g` = dL/d(linear); `g` is used up. */
static inline void linear_here_back(const struct place *p, const struct choices *o, const struct directions *d,
                                    const struct linear *at, struct linear *g, struct place *to) {
    V inverse = 1.0 / p->wavelength, slope = inverse / d->distance;
    V3 more, of_direction;
    cross(p->spindle, g->spindle, more);
    add(g->q, all(1.0), more);
    cross(g->spindle, at->q, more);
    add(to->spindle, all(1.0), more);
    add_of_skew(g->q, all(1.0), g->mosaic);
    add(g->q, all(-1.0), g->wavelength);
    EACH(i) of_direction[i] = g->q[i] * inverse;
    V of_slope = all(0.0), of_inverse = all(0.0);
    if (o->place) of_slope = across_back(d->diffracted, slope, g->position, of_direction);
    if (o->divergence) of_inverse = across_back(p->incident, -inverse, g->incident, to->incident);
    add(to->incident, -inverse, g->q);
    to->wavelength -= inverse * (dot(g->q, at->q) + slope * of_slope - inverse * of_inverse);
    unit_back(d->diffracted, d->distance, of_direction, -of_slope * slope / d->distance, to->position);
}

/* ---- exp(−ω) ------------------------------------------------------------------------------------------- */

/* exp(−ω) = I − first·X + second·X², X = skew(ω), and what of it the gradient wants again. Series in ω² < 0.1. */
struct turn {
    M3 matrix, cross, square;
    V angle2, first, second, first_slope, second_slope;
};

static inline void turn_back(const V3 rotation, struct turn *t) {
    V u = dot(rotation, rotation);
    t->angle2 = u;
    t->first = 1.0 + u * (-1.0 / 6 + u * (1.0 / 120 - u / 5040.0));
    t->second = 0.5 + u * (-1.0 / 24 + u * (1.0 / 720 - u / 40320.0));
    t->first_slope = -1.0 / 6 + u * (1.0 / 60 - u / 1680.0);
    t->second_slope = -1.0 / 24 + u * (1.0 / 360 - u / 13440.0);
    skew(rotation, t->cross);
    product(t->cross, t->cross, t->square);
    EVERY(i, j) t->matrix[i][j] = (i == j ? 1.0 : 0.0) - t->first * t->cross[i][j] + t->second * t->square[i][j];
}

/* What flows back to ω: through X, and through each of the series. */
struct turn_grads {
    M3 cross;
    V first, second, first_slope, second_slope;
};

static inline void turn_matrix_back(const struct turn *t, const M3 grad, struct turn_grads *g) {
    M3 left, right;
    product_t(grad, t->cross, left);
    t_product(t->cross, grad, right);
    EVERY(i, j) g->cross[i][j] += t->second * (left[i][j] + right[i][j]) - t->first * grad[i][j];
    g->first -= contract(grad, t->cross);
    g->second += contract(grad, t->square);
}

static inline void turn_finish(const struct turn *t, const V3 rotation, const struct turn_grads *g, V3 to) {
    V u = t->angle2;
    V of_u = g->first * t->first_slope + g->second * t->second_slope + g->first_slope * (1.0 / 60 - u / 840.0) +
             g->second_slope * (1.0 / 360 - u / 6720.0);
    add_of_skew(to, all(1.0), g->cross);
    add(to, 2.0 * of_u, rotation);
}

/* ∂(exp(−ω)·v)/∂ω, and the gradient back to v and (through `g`) to ω. */
struct turn_slope {
    V3 once, twice, along;
    M3 of_v, of_once;
};

static inline void slope_of_turn(const struct turn *t, const V3 rotation, const V3 v, struct turn_slope *s, M3 out) {
    M3 crossed;
    times(t->cross, v, s->once);
    times(t->cross, s->once, s->twice);
    skew(v, s->of_v);
    skew(s->once, s->of_once);
    product(t->cross, s->of_v, crossed);
    EACH(i) s->along[i] = 2.0 * (t->second_slope * s->twice[i] - t->first_slope * s->once[i]);
    EVERY(i, j)
    out[i][j] = t->first * s->of_v[i][j] - t->second * (s->of_once[i][j] + crossed[i][j]) + s->along[i] * rotation[j];
}

static inline void slope_of_turn_back(const struct turn *t, const V3 rotation, const V3 v, const struct turn_slope *s,
                                      const M3 grad, struct turn_grads *g, V3 to_v, V3 to_rotation) {
    M3 crossed, of_v, of_cross;
    V3 of_along, of_once, of_twice, more;
    product(t->cross, s->of_v, crossed);
    g->first += contract(grad, s->of_v);
    g->second -= contract(grad, s->of_once) + contract(grad, crossed);
    t_product(t->cross, grad, of_v);
    EVERY(i, j) of_v[i][j] = t->first * grad[i][j] - t->second * of_v[i][j];
    product_t(grad, s->of_v, of_cross);
    add_matrix(g->cross, -t->second, of_cross);
    times(grad, rotation, of_along);
    times_t(grad, s->along, more);
    add(to_rotation, all(1.0), more);
    EACH(i) of_twice[i] = 2.0 * t->second_slope * of_along[i], of_once[i] = -2.0 * t->first_slope * of_along[i];
    g->second_slope += 2.0 * dot(s->twice, of_along);
    g->first_slope -= 2.0 * dot(s->once, of_along);
    add_of_skew(of_once, -t->second, grad);
    add_outer(g->cross, all(1.0), of_twice, s->once);
    times_t(t->cross, of_twice, more);
    add(of_once, all(1.0), more);
    add_outer(g->cross, all(1.0), of_once, v);
    times_t(t->cross, of_once, more);
    add(to_v, all(1.0), more);
    add_of_skew(to_v, all(1.0), of_v);
}

#endif
