/* q and its slopes at a shift, exactly: turned crystal, other wavelength, turned beam, moved place; and back. */
#ifndef NBTORCH_PROFILE_SHIFTED_H
#define NBTORCH_PROFILE_SHIFTED_H

#include "profile_linear.h"

/* What linear_at passes through. */
struct shifted {
    V3 incident, diffracted, q, seen, about, swept; /* about: φ·u; swept: seen × u */
    V length, distance, stretch, wavelength;
    struct turn crystal, spindle;
    struct turn_slope slope;
    M3 both, across_incident, across_diffracted;
};

/* Slopes of the incident beam and of the place are computed where these spread. */
static inline void linear_at(const struct place *p, const struct shift *by, const struct choices *o, struct shifted *s,
                             struct linear *out) {
    V3 moved, turned;
    EACH(i) moved[i] = p->position[i] + by->position[i];
    EACH(i) turned[i] = p->incident[i] + by->incident[i];
    unit(moved, s->diffracted, &s->distance);
    unit(turned, s->incident, &s->length);
    s->stretch = 1.0 + by->wavelength;
    s->wavelength = p->wavelength * s->stretch;
    V inverse = 1.0 / s->wavelength;
    EACH(i) s->q[i] = (s->diffracted[i] - s->incident[i]) * inverse;
    EACH(i) s->about[i] = by->spindle * p->spindle[i];
    turn_back(s->about, &s->spindle);
    times(s->spindle.matrix, s->q, s->seen);
    turn_back(by->mosaic, &s->crystal);
    slope_of_turn(&s->crystal, by->mosaic, s->seen, &s->slope, out->mosaic);
    product(s->crystal.matrix, s->spindle.matrix, s->both);
    times(s->crystal.matrix, s->seen, out->q);
    EACH(i) out->wavelength[i] = -out->q[i] / s->stretch;
    if (o->divergence) {
        across(s->incident, -inverse / s->length, s->across_incident);
        product(s->both, s->across_incident, out->incident);
    }
    if (o->place) {
        across(s->diffracted, inverse / s->distance, s->across_diffracted);
        product(s->both, s->across_diffracted, out->position);
    }
    cross(s->seen, p->spindle, s->swept);
    times(s->crystal.matrix, s->swept, out->spindle);
}

/* Through the matrix exp(−ω)·exp(−φu)·c·(I − aaᵀ): to both turns, to a, and returned to c. */
static inline V placed_back(const struct shifted *s, const V3 a, V c, const M3 placed, const M3 grad, M3 of_both,
                            V3 to) {
    M3 more;
    product_t(grad, placed, more);
    add_matrix(of_both, all(1.0), more);
    t_product(s->both, grad, more);
    return across_back(a, c, more, to);
}

/* to += dL/d(place), of_shift += dL/d(shift), from `g` = dL/d(linear); `g` is used up. */
static inline void linear_at_back(const struct place *p, const struct shift *by, const struct choices *o,
                                  const struct shifted *s, const struct linear *at, struct linear *g, struct place *to,
                                  struct shift *of_shift) {
    V inverse = 1.0 / s->wavelength, c = -inverse / s->length, slope = inverse / s->distance;
    V3 of_incident, of_diffracted, of_seen, of_swept, more;
    M3 of_both, of_crystal, of_spindle;
    struct turn_grads crystal, spindle;
    memset(&crystal, 0, sizeof crystal);
    memset(&spindle, 0, sizeof spindle);
    clear_matrix(of_both), clear_vector(of_incident), clear_vector(of_diffracted), clear_vector(of_seen);
    V of_c = all(0.0), of_slope = all(0.0);
    if (o->divergence) of_c = placed_back(s, s->incident, c, s->across_incident, g->incident, of_both, of_incident);
    if (o->place)
        of_slope = placed_back(s, s->diffracted, slope, s->across_diffracted, g->position, of_both, of_diffracted);
    add(g->q, -1.0 / s->stretch, g->wavelength);
    of_shift->wavelength += dot(at->q, g->wavelength) / (s->stretch * s->stretch);
    /* the turns */
    product_t(of_both, s->spindle.matrix, of_crystal);
    t_product(s->crystal.matrix, of_both, of_spindle);
    add_outer(of_crystal, all(1.0), g->spindle, s->swept);
    add_outer(of_crystal, all(1.0), g->q, s->seen);
    times_t(s->crystal.matrix, g->spindle, of_swept);
    cross(p->spindle, of_swept, more);
    add(of_seen, all(1.0), more);
    cross(of_swept, s->seen, more);
    add(to->spindle, all(1.0), more);
    times_t(s->crystal.matrix, g->q, more);
    add(of_seen, all(1.0), more);
    slope_of_turn_back(&s->crystal, by->mosaic, s->seen, &s->slope, g->mosaic, &crystal, of_seen, of_shift->mosaic);
    turn_matrix_back(&s->crystal, of_crystal, &crystal);
    turn_finish(&s->crystal, by->mosaic, &crystal, of_shift->mosaic);
    add_outer(of_spindle, all(1.0), of_seen, s->q);
    turn_matrix_back(&s->spindle, of_spindle, &spindle);
    clear_vector(more);
    turn_finish(&s->spindle, s->about, &spindle, more);
    of_shift->spindle += dot(more, p->spindle);
    add(to->spindle, by->spindle, more);
    /* q = (d − i)/λ, with λ in both slopes too */
    times_t(s->spindle.matrix, of_seen, more);
    add(of_diffracted, inverse, more);
    add(of_incident, -inverse, more);
    V of_wavelength = -inverse * (dot(more, s->q) + c * of_c + slope * of_slope);
    to->wavelength += of_wavelength * s->stretch;
    of_shift->wavelength += of_wavelength * p->wavelength;
    V3 of_turned, of_moved;
    clear_vector(of_turned), clear_vector(of_moved);
    unit_back(s->incident, s->length, of_incident, -of_c * c / s->length, of_turned);
    unit_back(s->diffracted, s->distance, of_diffracted, -of_slope * slope / s->distance, of_moved);
    add(to->incident, all(1.0), of_turned), add(of_shift->incident, all(1.0), of_turned);
    add(to->position, all(1.0), of_moved), add(of_shift->position, all(1.0), of_moved);
}

#endif
