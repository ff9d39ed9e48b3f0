/* One reflection seen from one place: δ, Σ under every spread, the average, and the way back of its gradient. */
#ifndef NBTORCH_PROFILE_TERM_H
#define NBTORCH_PROFILE_TERM_H

#include "profile_average.h"
#include "profile_shifted.h"

#define FAR 100.0           /* δᵀΣ⁻¹δ: beyond it nothing is left of a reflection, and nothing is shifted */
#define BOX_VARIANCE (1.0 / 12.0)

/* Of the crystal and what spreads, the same in all lanes; also the layout of the gradient. */
struct spreads {
    M3 basis, mosaic, divergence, place, intrinsic; /* Å; rad²; rad²; mm²; index² */
    V3 cell;
    V bandwidth;
};

/* A term as it was computed, kept for the way back. */
struct term {
    struct place at;
    V3 reflection;
    struct directions directions;
    struct linear here, there;
    struct shift shift;
    struct shifted shifted;
    struct reflection_average average;
    M3 inverse;       /* of what the shift is taken from */
    V3 pull, along;   /* −Σ⁻¹δ; Bᵀ·pull */
    V3 moved;         /* what the tangent says that the shift moves q */
    Mask near, free;  /* where anything is shifted; where the spindle's shift is within the piece */
};

/* out += a·bᵀ, all of them symmetric. */
static inline void symmetric_product(const M3 a, const M3 b, M3 out) {
    EACH(i)
    for (int j = i; j < 3; j++)
        out[j][i] = out[i][j] += a[i][0] * b[j][0] + a[i][1] * b[j][1] + a[i][2] * b[j][2];
}

/* Σ = Σ₀ + diag(σ²h²) + B·S·Bᵀ, S what spreads in q. */
static inline void spread_of(const struct linear *at, const struct spreads *c, const struct choices *o, M3 out) {
    M3 half;
    EVERY(i, j) out[i][j] = c->bandwidth * at->wavelength[i] * at->wavelength[j];
    product(at->mosaic, c->mosaic, half);
    symmetric_product(half, at->mosaic, out);
    if (o->divergence) product(at->incident, c->divergence, half), symmetric_product(half, at->incident, out);
    if (o->place) product(at->position, c->place, half), symmetric_product(half, at->position, out);
}

static inline void covariance(const struct linear *at, const struct spreads *c, const struct choices *o, M3 out) {
    M3 in_q, half;
    V3 hkl;
    spread_of(at, c, o, in_q);
    memcpy(out, c->intrinsic, sizeof(M3));
    product(c->basis, in_q, half);
    symmetric_product(half, c->basis, out);
    times(c->basis, at->q, hkl);
    EACH(i) out[i][i] += c->cell[i] * hkl[i] * hkl[i];
}

/* J·C·Jᵀ: dL/dC and dL/dJ from that of the product, which is symmetric. */
static inline void sandwich_back(const M3 j, const M3 spread, const M3 grad, M3 of_j, M3 of_spread) {
    M3 left, more;
    product(grad, j, left);
    t_product(j, left, more);
    add_matrix(of_spread, all(1.0), more);
    product(left, spread, more);
    add_matrix(of_j, all(2.0), more);
}

/* From dL/dΣ and dL/dh to the slopes and the spreads. */
static inline void covariance_back(const struct linear *at, const struct spreads *c, const struct choices *o,
                                   const M3 grad, const V3 of_hkl, struct linear *of_at, struct spreads *to) {
    M3 half, in_q, of_q, more;
    V3 hkl, direct, vector;
    times(c->basis, at->q, hkl);
    EACH(i) direct[i] = of_hkl[i] + 2.0 * c->cell[i] * hkl[i] * grad[i][i];
    EACH(i) to->cell[i] += hkl[i] * hkl[i] * grad[i][i];
    add_matrix(to->intrinsic, all(1.0), grad);
    add_outer(to->basis, all(1.0), direct, at->q);
    times_t(c->basis, direct, vector);
    add(of_at->q, all(1.0), vector);
    product(grad, c->basis, half);
    t_product(c->basis, half, of_q);
    spread_of(at, c, o, in_q);
    product(half, in_q, more);
    add_matrix(to->basis, all(2.0), more);
    sandwich_back(at->mosaic, c->mosaic, of_q, of_at->mosaic, to->mosaic);
    if (o->divergence) sandwich_back(at->incident, c->divergence, of_q, of_at->incident, to->divergence);
    if (o->place) sandwich_back(at->position, c->place, of_q, of_at->position, to->place);
    times(of_q, at->wavelength, vector);
    to->bandwidth += dot(vector, at->wavelength);
    add(of_at->wavelength, 2.0 * c->bandwidth, vector);
}

/* The most likely values of what spreads where δ is seen: −C·Jᵀ·Σ⁻¹·δ, the spindle's within its piece. */
static inline void find_shift(const V3 offset, const struct spreads *c, const struct choices *o, struct term *t) {
    const struct linear *at = &t->here;
    double swept = o->span * o->span * BOX_VARIANCE;
    M3 total;
    V3 sweep, inner;
    V edge = all(0.5 * fabs(o->span));
    covariance(at, c, o, total);
    times(c->basis, at->spindle, sweep);
    add_outer(total, all(swept), sweep, sweep);
    invert(total, t->inverse);
    times(t->inverse, offset, t->pull);
    t->near = dot(offset, t->pull) < all(FAR);
    EACH(i) t->pull[i] = where(t->near, -t->pull[i], all(0.0));
    times_t(c->basis, t->pull, t->along);
    times_t(at->mosaic, t->along, inner), times(c->mosaic, inner, t->shift.mosaic);
    clear_vector(t->shift.incident), clear_vector(t->shift.position);
    if (o->divergence) times_t(at->incident, t->along, inner), times(c->divergence, inner, t->shift.incident);
    if (o->place) times_t(at->position, t->along, inner), times(c->place, inner, t->shift.position);
    t->shift.wavelength = c->bandwidth * dot(at->wavelength, t->along);
    V turned = swept * dot(at->spindle, t->along);
    t->free = magnitude(turned) <= edge;
    t->shift.spindle = smaller(larger(turned, -edge), edge);
}

/* shift = C·Jᵀ·a: dL/dC, dL/dJ and dL/da from dL/d(shift). */
static inline void likely_back(const M3 j, const M3 spread, const V3 a, const V3 grad, M3 of_j, M3 of_spread, V3 of_a) {
    V3 inner, of_inner, more;
    times_t(j, a, inner);
    add_symmetric(of_spread, all(1.0), grad, inner);
    times(spread, grad, of_inner);
    add_outer(of_j, all(1.0), a, of_inner);
    times(j, of_inner, more);
    add(of_a, all(1.0), more);
}

/* From dL/d(shift) to everything it is made of. */
static inline void find_shift_back(const struct term *t, const struct spreads *c, const struct choices *o,
                                   const struct shift *g, struct linear *of_here, struct spreads *to) {
    const struct linear *at = &t->here;
    double swept = o->span * o->span * BOX_VARIANCE;
    V3 of_along, of_pull, of_offset, of_sweep, sweep, more;
    M3 of_total;
    V turned = where(t->free, swept * g->spindle, all(0.0)), wave = dot(at->wavelength, t->along);
    clear_vector(of_along);
    likely_back(at->mosaic, c->mosaic, t->along, g->mosaic, of_here->mosaic, to->mosaic, of_along);
    if (o->divergence)
        likely_back(at->incident, c->divergence, t->along, g->incident, of_here->incident, to->divergence, of_along);
    if (o->place)
        likely_back(at->position, c->place, t->along, g->position, of_here->position, to->place, of_along);
    to->bandwidth += g->wavelength * wave;
    add(of_here->wavelength, g->wavelength * c->bandwidth, t->along);
    add(of_along, g->wavelength * c->bandwidth, at->wavelength);
    add(of_here->spindle, turned, t->along);
    add(of_along, turned, at->spindle);
    add_outer(to->basis, all(1.0), t->pull, of_along);
    times(c->basis, of_along, of_pull);
    times(t->inverse, of_pull, of_offset); /* K·dL/d(pull), pull = −K·δ */
    EACH(i) of_offset[i] = where(t->near, of_offset[i], all(0.0));
    clear_matrix(of_total);
    add_symmetric(of_total, all(-1.0), of_offset, t->pull);
    times(c->basis, at->spindle, sweep);
    times(of_total, sweep, of_sweep);
    EACH(i) of_sweep[i] *= 2.0 * swept;
    add_outer(to->basis, all(1.0), of_sweep, at->spindle);
    times_t(c->basis, of_sweep, more);
    add(of_here->spindle, all(1.0), more);
    EACH(i) of_offset[i] = -of_offset[i];
    covariance_back(at, c, o, of_total, of_offset, of_here, to);
}

/* The term's average; with `slopes`, what term_back wants too. t->at and t->reflection are given. */
static inline void find_term(const struct spreads *c, const struct choices *o, int slopes, struct term *t) {
    V3 hkl, offset, sweep;
    M3 total;
    struct linear *at = &t->here;
    linear_here(&t->at, o, &t->directions, at);
    times(c->basis, at->q, hkl);
    EACH(i) offset[i] = hkl[i] - t->reflection[i];
    clear_vector(t->moved);
    if (o->iterated) {
        V3 left;
        find_shift(offset, c, o, t);
        at = &t->there;
        linear_at(&t->at, &t->shift, o, &t->shifted, at);
        times(at->mosaic, t->shift.mosaic, t->moved);
        if (o->divergence) times(at->incident, t->shift.incident, left), add(t->moved, all(1.0), left);
        if (o->place) times(at->position, t->shift.position, left), add(t->moved, all(1.0), left);
        add(t->moved, t->shift.wavelength, at->wavelength), add(t->moved, t->shift.spindle, at->spindle);
        EACH(i) left[i] = at->q[i] - t->moved[i];
        times(c->basis, left, offset);
        EACH(i) offset[i] -= t->reflection[i];
    }
    covariance(at, c, o, total);
    times(c->basis, at->spindle, sweep);
    average_reflection(offset, total, sweep, o->span, o->cut, slopes, &t->average);
}

/* to_place, to += dL/d(place, spreads) for dL/d(average) = `grad`. */
static inline void term_back(const struct term *t, const struct spreads *c, const struct choices *o, V grad,
                             struct place *to_place, struct spreads *to) {
    const struct linear *at = o->iterated ? &t->there : &t->here;
    struct linear of_at;
    struct shift of_shift;
    V3 of_offset, of_sweep, more;
    M3 of_total;
    memset(&of_at, 0, sizeof of_at);
    EACH(i) of_offset[i] = grad * t->average.of_offset[i], of_sweep[i] = grad * t->average.of_sweep[i];
    EVERY(i, j) of_total[i][j] = grad * t->average.of_covariance[i][j];
    if (o->span != 0.0) {
        add_outer(to->basis, all(1.0), of_sweep, at->spindle);
        times_t(c->basis, of_sweep, of_at.spindle);
    }
    covariance_back(at, c, o, of_total, of_offset, &of_at, to);
    if (!o->iterated) {
        linear_here_back(&t->at, o, &t->directions, at, &of_at, to_place);
        return;
    }
    memset(&of_shift, 0, sizeof of_shift);
    add_outer(to->basis, all(-1.0), of_offset, t->moved);
    times_t(c->basis, of_offset, more);
    EACH(i) more[i] = -more[i];
    add_outer(of_at.mosaic, all(1.0), more, t->shift.mosaic), times_t(at->mosaic, more, of_shift.mosaic);
    if (o->divergence)
        add_outer(of_at.incident, all(1.0), more, t->shift.incident), times_t(at->incident, more, of_shift.incident);
    if (o->place)
        add_outer(of_at.position, all(1.0), more, t->shift.position), times_t(at->position, more, of_shift.position);
    add(of_at.wavelength, t->shift.wavelength, more), of_shift.wavelength = dot(at->wavelength, more);
    add(of_at.spindle, t->shift.spindle, more), of_shift.spindle = dot(at->spindle, more);
    linear_at_back(&t->at, &t->shift, o, &t->shifted, at, &of_at, to_place, &of_shift);
    memset(&of_at, 0, sizeof of_at);
    find_shift_back(t, c, o, &of_shift, &of_at, to);
    linear_here_back(&t->at, o, &t->directions, &t->here, &of_at, to_place);
}

#endif
