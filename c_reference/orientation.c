/* The direct cell at every spindle step and in every mosaic domain, computed once for the whole image. */
#include "nanobragg.h"

#include <math.h>
#include <stdlib.h>

#define DEFAULT_DOMAINS 10

/* A spread without a count gives ten domains, a count without a spread gives one. */
static int domain_count(const Options *o) {
    double spread = or_default(o->mosaic, 0.0), count = or_default(o->mosaic_count, 0.0);
    if (spread <= 0.0) return 1;
    if (count > 1e7) fail("-mosaic_dom: %.3g domains are too many", count);
    return count >= 1.0 ? (int)count : DEFAULT_DOMAINS;
}

/* Domain 0 is the ideal orientation; its deviates are drawn all the same, so that the others keep theirs. */
static Mat *draw_domains(const Options *o, int count) {
    Mat *domains = allocate(count, sizeof(Mat), "the mosaic domains");
    Random random;
    random_seed(&random, o->mosaic_seed);
    for (int i = 0; i < count; i++) domains[i] = random_rotation(&random, or_default(o->mosaic, 0.0) * RADIANS);
    domains[0] = xyz_rotation(0.0, 0.0, 0.0);
    return domains;
}

/* The original does not rotate when phi is exactly 0: it keeps the vectors of the step before, in the cyclic
 * order of the loops. -compat nanobragg reproduces that; without it phi = 0 is phi = 0. */
static int stale_step(const double *phi, int n, int j) {
    for (int back = 0; back < n; back++) {
        int step = (j - back + n) % n;
        if (phi[step] != 0.0) return step;
    }
    return j;
}

void orientations_build(Crystal *c, const Options *o, Vec spindle) {
    Steps steps = spindle_steps(o->phisteps, given(o->osc) ? o->osc * RADIANS : NAN,
                                given(o->phistep) ? o->phistep * RADIANS : NAN);
    double *phi = allocate(steps.n, sizeof(double), "the spindle steps");
    Mat *domains;
    c->n_phi = steps.n;
    c->n_mosaic = domain_count(o);
    c->phi = o->phi;
    c->osc = steps.range / RADIANS;
    domains = draw_domains(o, c->n_mosaic);
    c->orientations = allocate((double)c->n_phi * c->n_mosaic, sizeof(Basis), "the orientations");
    for (int j = 0; j < steps.n; j++) phi[j] = o->phi * RADIANS + (o->phi_midpoint ? j + 0.5 : j) * steps.step;
    for (int j = 0; j < steps.n; j++) {
        double angle = phi[o->compat ? stale_step(phi, steps.n, j) : j];
        Basis turned = turn_basis(axis_rotation(spindle, angle), c->direct);
        for (int m = 0; m < c->n_mosaic; m++)
            c->orientations[(size_t)j * c->n_mosaic + m] = turn_basis(domains[m], turned);
    }
    free(phi);
    free(domains);
}
