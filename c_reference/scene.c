/* From what the user stated to what is rendered. The order matters: the detector's frame gives the beam and
 * the spindle, the beam gives the wavelength of a matrix file, the crystal gives the oversampling. */
#include "nanobragg.h"

#include <math.h>
#include <stdlib.h>

/* Three samples across the narrowest spot the crystal can make, at least one. */
static int choose_oversample(const Scene *s, double asked) {
    const Crystal *c = &s->crystal;
    double widest = 0.0, spot, n;
    if (asked >= 1.0) {
        if (asked > 10000.0) fail("-oversample %g is too much", asked);
        return (int)asked;
    }
    for (int i = 0; i < 3; i++) widest = fmax(widest, c->n[i] * c->cell[i]);
    spot = s->beam.wavelength * s->detector.distance / s->detector.pixel;
    n = ceil(3.0 * widest / spot);
    if (n > 10000.0) fail("the crystal asks for an oversampling of %g: give -oversample", n);
    return n >= 1.0 ? (int)n : 1;
}

void scene_build(Scene *s, const Options *o) {
    detector_build(&s->detector, o);
    beam_build(&s->beam, o, &s->detector);
    crystal_build(&s->crystal, o, &s->beam);
    orientations_build(&s->crystal, o, s->detector.spindle);
    factors_build(&s->factors, o, &s->crystal);
    s->oversample = choose_oversample(s, or_default(o->oversample, 0.0));
    s->over_thick = o->over_thick;
    s->over_polar = o->over_polar;
    s->over_omega = o->over_omega;
    s->exact_corrections = o->exact_corrections;
    s->steps = (double)s->beam.n_sources * s->crystal.n_mosaic * s->crystal.n_phi * s->oversample * s->oversample;
    s->trace_all = o->trace_all;
    s->trace_slow = given(o->trace_pixel[0]) ? (int)o->trace_pixel[0] : -1;
    s->trace_fast = given(o->trace_pixel[1]) ? (int)o->trace_pixel[1] : -1;
    if (s->trace_slow >= s->detector.n_slow || s->trace_fast >= s->detector.n_fast)
        fail("-trace_pixel %d %d is outside the detector", s->trace_slow, s->trace_fast);
    s->mask = NULL;
    if (o->mask_file != NULL) s->mask = read_mask(o->mask_file, s->detector.n_fast, s->detector.n_slow);
}

void scene_free(Scene *s) {
    free(s->beam.sources);
    free(s->crystal.orientations);
    free(s->factors.values);
    free(s->mask);
}
