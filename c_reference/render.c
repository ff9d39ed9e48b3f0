/* The image: the sums over layers, sub-pixels, sources, spindle steps and mosaic domains, and the one place
 * where r_e^2 * fluence / steps is written. */
#include "nanobragg.h"

#include <math.h>

/* Everything that one orientation contributes to one sample. */
static Term evaluate(const Scene *s, const Basis *cell, Vec q) {
    Term t;
    t.hkl[0] = dot(cell->a, q);
    t.hkl[1] = dot(cell->b, q);
    t.hkl[2] = dot(cell->c, q);
    for (int i = 0; i < 3; i++) t.nearest[i] = ceil(t.hkl[i] - 0.5); /* not round: halves go down */
    t.lattice = lattice_factor(&s->crystal, &t);
    t.cell = structure_factor(&s->factors, &t);
    return t;
}

/* polar: of the first sample that is not culled, unless the flags or the exact mode ask for every one. */
static void update_polarization(const Scene *s, Pixel *p, const Ray *ray, const Source *src) {
    if (p->polar == 0.0 || s->over_polar || s->exact_corrections)
        p->polar = polarization_factor(&s->beam, src, ray->direction);
    p->cos_2theta = dot(src->incident, ray->direction);
}

/* What every single addition is multiplied with, in the running and in the exact mode. */
static double running_factor(const Scene *s, const Pixel *p) {
    return (s->over_thick ? p->capture : 1.0) * (s->over_polar ? p->polar : 1.0) * (s->over_omega ? p->omega : 1.0);
}

/* The innermost loops: spindle outer, mosaic inner. In running mode the WHOLE sum is multiplied at each
 * addition: not physics with more than one step, but what the original does. */
static void add_orientations(const Scene *s, Pixel *p, const Ray *ray, const Source *src, Vec q, Index at) {
    int count = s->crystal.n_phi * s->crystal.n_mosaic;
    int running = s->over_thick || s->over_polar || s->over_omega;
    double factor = running_factor(s, p), sum = 0.0;
    for (int k = 0; k < count; k++) {
        Term t = evaluate(s, &s->crystal.orientations[k], q);
        double intensity = t.cell * t.cell * t.lattice * t.lattice;
        if (running && !s->exact_corrections)
            p->sum = (p->sum + intensity) * factor;
        else
            sum += intensity;
        if (at.traced == TRACED && at.source == 0 && k == 0) trace_sample(s, ray, src, p, &t);
        if (at.traced == TRACED_ALL) trace_term(s, ray, src, &t, at, k);
    }
    p->sum += s->exact_corrections ? sum * p->capture * p->polar * p->omega : sum;
}

/* One sample of the pixel: every source through one point of one layer. Returns the evaluations made. */
static double add_sample(const Scene *s, Pixel *p, const Ray *ray, Index at) {
    double evaluations = 0.0;
    for (int i = 0; i < s->beam.n_sources; i++) {
        const Source *src = &s->beam.sources[i];
        Vec q = scale(1.0 / src->wavelength, add(ray->direction, scale(-1.0, src->incident)));
        double stol = 0.5 * length(q);
        if (s->exact_corrections)
            p->exact_weight += p->capture * p->omega * polarization_factor(&s->beam, src, ray->direction);
        if (s->crystal.d_min > 0.0 && stol > 0.0 && s->crystal.d_min > 0.5 / stol) continue;
        update_polarization(s, p, ray, src);
        at.source = i;
        add_orientations(s, p, ray, src, q, at);
        evaluations += (double)s->crystal.n_phi * s->crystal.n_mosaic;
    }
    return evaluations;
}

/* capture survives from the LAST layer's first sub-pixel, because it is reset at every layer. */
static double sum_pixel(const Scene *s, Pixel *p, int slow, int fast, enum traced traced) {
    const Detector *d = &s->detector;
    int n = s->oversample;
    double sub = d->pixel / n, evaluations = 0.0;
    for (int layer = 0; layer < d->n_layers; layer++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double fast_mm = sub * ((double)fast * n + j) + sub / 2.0;
                double slow_mm = sub * ((double)slow * n + i) + sub / 2.0;
                Ray ray = detector_ray(d, fast_mm, slow_mm, layer * d->layer_step);
                int first = i == 0 && j == 0;
                if (first || s->over_thick || s->exact_corrections) p->capture = capture_fraction(d, &ray, layer);
                if (p->omega == 0.0 || s->over_omega || s->exact_corrections) p->omega = solid_angle(d, &ray);
                evaluations += add_sample(s, p, &ray, (Index){traced, (layer * n + i) * n + j, 0});
            }
    return evaluations;
}

static double cached_factor(const Scene *s, const Pixel *p) {
    if (s->exact_corrections) return 1.0;
    return (s->over_thick ? 1.0 : p->capture) * (s->over_polar ? 1.0 : p->polar) * (s->over_omega ? 1.0 : p->omega);
}

static double render_pixel(const Scene *s, int slow, int fast, float *value) {
    Pixel p = {0.0, 0.0, s->beam.no_polarization ? 1.0 : 0.0, 0.0, 0.0, 0.0}, scratch = p;
    enum traced traced = slow == s->trace_slow && fast == s->trace_fast ? TRACED : NOT_TRACED;
    double evaluations, final;
    if (!s->exact_corrections) p.sum = s->beam.background;
    evaluations = sum_pixel(s, &p, slow, fast, traced);
    if (s->exact_corrections) /* the background sees the mean corrections of the pixel's samples */
        p.sum += s->beam.background * p.exact_weight / ((double)s->oversample * s->oversample * s->beam.n_sources);
    final = R_E_SQR * s->beam.fluence * p.sum / s->steps * cached_factor(s, &p);
    *value = (float)final;
    if (traced == TRACED) trace_pixel(s, &p, final);
    if (traced == TRACED && s->trace_all) sum_pixel(s, &scratch, slow, fast, TRACED_ALL);
    return evaluations;
}

double render(const Scene *s, float *image) {
    const int *roi = s->detector.roi;
    double evaluations = 0.0;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) reduction(+ : evaluations)
#endif
    for (int slow = roi[2]; slow <= roi[3]; slow++)
        for (int fast = roi[0]; fast <= roi[1]; fast++) {
            size_t index = (size_t)slow * s->detector.n_fast + fast;
            if (s->mask != NULL && s->mask[index] == 0) continue;
            evaluations += render_pixel(s, slow, fast, &image[index]);
        }
    return evaluations;
}
