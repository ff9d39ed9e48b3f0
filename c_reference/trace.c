/* TRACE_C lines: the numbers one pixel was summed from, printed where they were used. Names and units are the
 * original's, quirks included: scattering_vec_A_inv is in 1/m, omega_pixel_sr is the cached one. */
#include "nanobragg.h"

/* Follows every name: empty but under -trace_all. Only one pixel is traced, so threads do not share it. */
static char indices[64];

static void number(const char *name, double value) { printf("TRACE_C: %s%s %.15g\n", name, indices, value); }

static void vector(const char *name, Vec v) {
    printf("TRACE_C: %s%s %.15g %.15g %.15g\n", name, indices, v.x, v.y, v.z);
}

static void sample_geometry(const Scene *s, const Ray *ray, const Pixel *p) {
    const Detector *d = &s->detector;
    vector("pix0_vector_meters", scale(1e-3, d->pix0));
    vector("fdet_vec", d->fast);
    vector("sdet_vec", d->slow);
    vector("pixel_pos_meters", scale(1e-3, ray->position));
    number("R_distance_meters", ray->airpath * 1e-3);
    number("omega_pixel_sr", p->omega);
    number("close_distance_meters", d->close_distance * 1e-3);
    number("obliquity_factor", d->close_distance / ray->airpath);
    vector("diffracted_vec", ray->direction);
}

/* One of the orientations: direct vectors are after spindle and mosaic, the stars before them. */
static void orientation_vectors(const Crystal *c, int orientation) {
    const Basis *rotated = &c->orientations[orientation];
    vector("rot_a_angstroms", rotated->a);
    vector("rot_b_angstroms", rotated->b);
    vector("rot_c_angstroms", rotated->c);
    vector("rot_a_star_A_inv", c->star.a);
    vector("rot_b_star_A_inv", c->star.b);
    vector("rot_c_star_A_inv", c->star.c);
}

static void scattering(const Scene *s, const Ray *ray, const Source *src, const Term *t, int orientation) {
    Vec q = scale(1e10 / src->wavelength, add(ray->direction, scale(-1.0, src->incident)));
    vector("incident_vec", src->incident);
    number("lambda_meters", src->wavelength * 1e-10);
    number("lambda_angstroms", src->wavelength);
    vector("scattering_vec_A_inv", q);
    orientation_vectors(&s->crystal, orientation);
    vector("hkl_frac", vec_from(t->hkl));
    vector("hkl_rounded", vec_from(t->nearest));
    number("F_latt_a", t->axis[0]);
    number("F_latt_b", t->axis[1]);
    number("F_latt_c", t->axis[2]);
    number("F_latt", t->lattice);
    number("F_cell", t->cell);
}

void trace_sample(const Scene *s, const Ray *ray, const Source *src, const Pixel *p, const Term *t) {
    sample_geometry(s, ray, p);
    scattering(s, ray, src, t, 0);
}

/* -trace_all: one sample, source, spindle step and domain, each line with its indices. */
void trace_term(const Scene *s, const Ray *ray, const Source *src, const Term *t, Index at, int orientation) {
    int domains = s->crystal.n_mosaic;
    snprintf(indices, sizeof indices, "[%d,%d,%d,%d]", at.sample, at.source, orientation / domains,
             orientation % domains);
    scattering(s, ray, src, t, orientation);
    number("I_term", t->cell * t->cell * t->lattice * t->lattice);
    indices[0] = '\0';
}

void trace_pixel(const Scene *s, const Pixel *p, double final) {
    number("I_before_scaling", p->sum);
    number("r_e_meters", 2.81794117756025e-15);
    number("r_e_sqr", R_E_SQR);
    number("fluence_photons_per_m2", s->beam.fluence);
    number("steps", s->steps);
    number("oversample_thick", s->over_thick);
    number("oversample_polar", s->over_polar);
    number("oversample_omega", s->over_omega);
    number("capture_fraction", p->capture);
    number("polar", p->polar);
    number("omega_pixel", p->omega);
    number("cos_2theta", p->cos_2theta);
    number("I_pixel_final", final);
    number("floatimage_accumulated", (double)(float)final);
}
