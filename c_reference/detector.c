/* The detector's basis, size and sensor, and what a ray to one sample of it is worth. */
#include "nanobragg.h"

#include <math.h>

typedef struct {
    Vec beam, fast, slow, normal, twotheta, polar, spindle;
    enum pivot pivot;
} Frame;

/* Indexed by enum convention. The basis is what stands before any rotation. CUSTOM starts from MOSFLM's. */
static const Frame FRAMES[] = {
    {{1, 0, 0}, {0, 0, 1}, {0, -1, 0}, {1, 0, 0}, {0, 0, -1}, {0, 0, 1}, {0, 0, 1}, PIVOT_BEAM},
    {{1, 0, 0}, {0, 0, 1}, {0, -1, 0}, {1, 0, 0}, {0, 0, -1}, {0, 0, 1}, {0, 0, 1}, PIVOT_BEAM},
    {{0, 0, 1}, {1, 0, 0}, {0, -1, 0}, {0, 0, 1}, {-1, 0, 0}, {1, 0, 0}, {1, 0, 0}, PIVOT_BEAM},
    {{0, 0, 1}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 0}, {1, 0, 0}, {1, 0, 0}, PIVOT_SAMPLE},
    {{0, 0, 1}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 0}, {0, 1, 0}, PIVOT_SAMPLE},
    {{1, 0, 0}, {0, 0, 1}, {0, -1, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0, 0, 1}, PIVOT_UNSET},
};

static Vec unit_or(const double *stated, Vec fallback) { return given(stated[0]) ? unit(vec_from(stated)) : fallback; }

static void set_frame(Detector *d, const Options *o) {
    int convention = o->vector_given ? CUSTOM : o->convention;
    Frame frame = FRAMES[convention];
    if (o->vector_given && o->convention_given)
        warn("a vector was given: the named convention is replaced by a custom one");
    d->beam = unit_or(o->beam_vec, frame.beam);
    d->fast = unit_or(o->fast_vec, frame.fast);
    d->slow = unit_or(o->slow_vec, frame.slow);
    d->normal = unit_or(o->normal_vec, frame.normal);
    d->polar = unit_or(o->polar_vec, frame.polar);
    d->spindle = unit_or(o->spindle_vec, frame.spindle);
    d->twotheta_axis = unit_or(o->twotheta_vec, frame.twotheta);
    /* A normal that is not of exactly unit length, as typed, is recomputed rather than normalized. */
    if (given(o->normal_vec[0]) && length(vec_from(o->normal_vec)) != 1.0) d->normal = unit(cross(d->fast, d->slow));

    d->pivot = frame.pivot;
    if (convention == CUSTOM) d->pivot = o->pivot_implied ? o->pivot_implied : PIVOT_BEAM;
    if (o->pivot_explicit && o->compat && convention != CUSTOM && o->pivot_explicit != (int)d->pivot)
        warn("-compat nanobragg: the named convention overrules -pivot");
    else if (o->pivot_explicit)
        d->pivot = o->pivot_explicit;
}

/* A count decides; else a size, 102.4 mm if none was given: 1024 pixels of 0.1 mm, 512 of 0.2 mm. */
static int pixel_count(double count, double size, double pixel) {
    double n = given(count) ? count : ceil(size / pixel - 0.5);
    if (!(n >= 1.0 && n <= 1e6)) fail("the detector would have %.3g pixels on a side", n);
    return (int)n;
}

static void set_size(Detector *d, const Options *o) {
    double fast = or_default(o->detsize[0], 102.4), slow = or_default(o->detsize[1], 102.4);
    d->pixel = or_default(o->pixel, 0.1);
    d->n_fast = pixel_count(o->n_pixels[0], fast, d->pixel);
    d->n_slow = pixel_count(o->n_pixels[1], slow, d->pixel);
    d->detsize_fast = given(o->n_pixels[0]) ? d->n_fast * d->pixel : fast;
    d->detsize_slow = given(o->n_pixels[1]) ? d->n_slow * d->pixel : slow;
    d->curved = o->curved;
    d->point_pixel = o->point_pixel;
    d->twotheta = o->twotheta;
}

static void set_roi(Detector *d, const Options *o) {
    const int last[4] = {d->n_fast - 1, d->n_fast - 1, d->n_slow - 1, d->n_slow - 1};
    for (int i = 0; i < 4; i++) {
        double edge = or_default(o->roi[i], i % 2 ? last[i] : 0);
        d->roi[i] = edge < 0 ? (i % 2 ? -1 : 0) : edge > last[i] ? (i % 2 ? last[i] : last[i] + 1) : (int)edge;
    }
    if (d->roi[0] > d->roi[1] || d->roi[2] > d->roi[3]) fail("-roi selects no pixel of the detector");
}

/* The sensor as a stack of layers. With a thickness and a count the original's step is thickness/(n-1): the
 * stack is one step too thick, and parity needs it; -exact_corrections uses thickness/n. */
static void set_sensor(Detector *d, const Options *o) {
    double thickness = or_default(o->thickness, 0.0), n = or_default(o->layers, 0.0);
    d->n_layers = 1;
    d->layer_step = 0.0;
    d->attenuation = or_default(o->absorption, INFINITY);
    if (thickness <= 0.0) return;
    if (isinf(d->attenuation)) {
        warn("-detector_thick without a finite -detector_abs: no absorption is computed");
        return;
    }
    if (n > 1e6) fail("-detector_thicksteps: %.3g layers are too many", n);
    if (o->exact_corrections) {
        d->n_layers = n >= 1.0 ? (int)n : 2;
        d->layer_step = thickness / d->n_layers;
        return;
    }
    d->n_layers = n >= 2.0 ? (int)n : 2;
    d->layer_step = n >= 1.0 ? thickness / (d->n_layers - 1) : thickness / 2.0;
}

void detector_build(Detector *d, const Options *o) {
    set_frame(d, o);
    set_size(d, o);
    set_roi(d, o);
    set_sensor(d, o);
    detector_place(d, o);
}

/* Every pixel of a curved detector lies at `distance`, turned by its flat position taken as an arc. */
static Vec bend(const Detector *d, Vec flat) {
    Vec v = scale(d->distance, d->beam);
    v = turn(axis_rotation(d->slow, flat.y / d->distance), v);
    return turn(axis_rotation(d->fast, flat.z / d->distance), v);
}

Ray detector_ray(const Detector *d, double fast_mm, double slow_mm, double depth) {
    Ray ray;
    Vec in_plane = add(scale(fast_mm, d->fast), scale(slow_mm, d->slow));
    ray.position = add(add(d->pix0, in_plane), scale(depth, d->normal));
    if (d->curved) ray.position = bend(d, ray.position);
    ray.airpath = length(ray.position);
    ray.direction = unit(ray.position);
    return ray;
}

double solid_angle(const Detector *d, const Ray *ray) {
    double metres = ray->airpath * 1e-3;
    /* not dimensionless: the original's number for a point pixel is 1/m^2 */
    if (d->point_pixel) return 1.0 / (metres * metres);
    return d->pixel * d->pixel / (ray->airpath * ray->airpath) * d->close_distance / ray->airpath;
}

/* The share of the photons that stop in one layer, on the slanted path through it. */
double capture_fraction(const Detector *d, const Ray *ray, int layer) {
    double path;
    if (d->layer_step <= 0.0) return 1.0;
    path = d->layer_step / (d->attenuation * dot(ray->direction, d->normal));
    return exp(-layer * path) - exp(-(layer + 1) * path);
}
