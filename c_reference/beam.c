/* Wavelength, fluence, the water background and the polarization factor. */
#include "nanobragg.h"

#include <math.h>

#define DEFAULT_FLUENCE 125932015286227086360700780544.0 /* photons per m^2 */
#define WATER_F 2.57 /* forward scattering of water, in electrons, as the original has it */

void beam_build(Beam *b, const Options *o, const Detector *d) {
    double metres, water = o->water;
    b->wavelength = or_default(o->wavelength, 1.0);
    b->polarization = o->polarization;
    b->no_polarization = o->no_polarization;
    b->beamsize = or_default(o->beamsize, 0.1);
    metres = b->beamsize * 1e-3;
    b->fluence = or_default(o->fluence, DEFAULT_FLUENCE);
    if (given(o->flux)) b->fluence = o->flux * or_default(o->exposure, 1.0) / (metres * metres);
    /* r_e^2 * fluence is applied to the whole of I(p) again at the end: the original's number, kept. */
    b->background = WATER_F * WATER_F * R_E_SQR * b->fluence * water * water * water * 1e6 * AVOGADRO / 18.0;
    sources_build(b, o, d);
}

/* Kahn's factor without the angle psi: (1 - cos^2 2theta) cos 2psi = (d.E)^2 - (d.B)^2, regular everywhere. */
double polarization_factor(const Beam *b, const Source *s, Vec diffracted) {
    double c = dot(s->incident, diffracted), e = dot(s->electric, diffracted), m = dot(s->magnetic, diffracted);
    if (b->no_polarization) return 1.0;
    return 0.5 * (1.0 + c * c - b->polarization * (e * e - m * m));
}
