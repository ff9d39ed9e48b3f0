/* What Python hands to the pixel sum. `library.py` mirrors this struct field by field. */
#ifndef NBTORCH_PIXEL_SUM_H
#define NBTORCH_PIXEL_SUM_H

#include "lattice.h"
#include "rays.h"

/* The two operators in one pass. `rays` is a grid, whose diffracted and weight are made tile by tile and never stored;
 * of `lattice`, n_pixels counts samples, and diffracted, value and grad are not used. */
struct pixel_sum_args {
    struct lattice_args lattice;
    struct ray_args rays;
    const double *source_weight; /* [S] */
    double *value;               /* [pixels] Σ over samples and sources of source_weight·ray weight·lattice sum */

    /* Reverse: grad is dL/d(value) [pixels]; filled are rays.grad, the lattice's grad_… and this. */
    const double *grad;
    double *grad_source_weight; /* [S] */
};

#endif
