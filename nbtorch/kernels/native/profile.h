/* What Python hands to the closed form. `library.py` mirrors these structs field by field. */
#ifndef NBTORCH_PROFILE_H
#define NBTORCH_PROFILE_H

#include "rays.h"

/* The differentiable arguments, N panels, S sources, K pieces of the spindle range; also the layout of their gradients
 * and tangents. The order is that of struct numbers in profile_ray.h. */
struct profile_inputs {
    double *frame, *pixel_size, *absorption, *layer_step;     /* as in struct ray_inputs */
    double *incident, *along_e, *along_b;                     /* [S, 3] */
    double *kahn;                                             /* [1] */
    double *source_weight, *wavelength, *bandwidth;           /* [S] */
    double *divergence;                                       /* [S, 3, 3] rad² */
    double *basis, *mosaic;                                   /* [K, 3, 3] Å, rad² */
    double *spindle, *intrinsic, *cell, *pixel, *scale;       /* [3], [3, 3], [3], [1], [1] */
    double *table;                                            /* [count] amplitudes */
};
#define PROFILE_FIELDS 19 /* without the table */

/* All arrays are contiguous float64 (panel, slow, fast: int64). A pointer that is NULL is absent or not wanted. */
struct profile_args {
    int64_t n_pixels, n_panels, n_sources, n_pieces, n_threads;
    int64_t layers, oversample, point_pixel, polarized, iterated, divergence, place;
    int64_t reach[3], first[3], count[3]; /* reflections beyond the nearest; of the table */
    double default_F, dmin, span, cut; /* cut: what of a reflection's peak is left out; 0: nothing */
    const int64_t *panel, *slow, *fast; /* [pixels] */
    struct profile_inputs in;
    double *value; /* [pixels] */

    /* Reverse: grad is dL/d(value) [pixels]. */
    const double *grad;
    struct profile_inputs to;

    /* Forward: T tangents of each argument, a leading axis of length T, NULL for zero; tangent [T, pixels]. */
    int64_t n_tangents;
    struct profile_inputs dot;
    double *tangent;
};

#endif
