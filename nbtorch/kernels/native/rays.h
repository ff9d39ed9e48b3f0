/* What Python hands to the ray kernels. `library.py` mirrors these structs field by field. */
#ifndef NBTORCH_RAYS_H
#define NBTORCH_RAYS_H

#include <stdint.h>

/* The differentiable arguments of P samples, S sources, N panels; also the layout of their gradients and tangents. */
struct ray_inputs {
    double *frame;      /* [N, 4, 3] rows fast, slow, normal, origin (mm) */
    double *pixel_size; /* [N, 2] mm */
    double *absorption; /* [N] µ in 1/mm */
    double *incident;   /* [S, 3] unit */
    double *along_e;    /* [S, 3] unit: E of the polarization */
    double *along_b;    /* [S, 3] unit: B */
    double *kahn;       /* [1] K */
    double *fast, *slow; /* [P] pixels */
    double *depth, *layer; /* [P] mm */
    double *layer_step;    /* [N] mm: of a grid, in the place of the four above */
};

/* All arrays are contiguous float64 (panel: int64). */
struct ray_args {
    int64_t n_samples, n_sources, n_panels, n_threads, point_pixel, polarized;
    int64_t layers, oversample; /* of a grid: P = pixels·layers·oversample²; 0 where samples are listed */
    const int64_t *panel;       /* [P], of a grid [pixels] */
    const int64_t *slow, *fast; /* of a grid: [pixels] */
    struct ray_inputs in;
    double *diffracted; /* [P, 3] unit */
    double *weight;     /* [P, S] capture·solid angle·polarization */

    /* Reverse: dL/d(diffracted), dL/d(weight) in; dL/d(argument) out. */
    const double *grad_diffracted, *grad_weight;
    struct ray_inputs grad;

    /* Forward: T tangents of each argument, a leading axis of length T, NULL for zero. */
    int64_t n_tangents;
    struct ray_inputs dot;
    double *dot_diffracted, *dot_weight; /* [T, P, 3], [T, P, S] */
};

#endif
