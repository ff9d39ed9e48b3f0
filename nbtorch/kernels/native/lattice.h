/* What Python hands to the lattice kernels. `library.py` mirrors this struct field by field. */
#ifndef NBTORCH_LATTICE_H
#define NBTORCH_LATTICE_H

#include <stdint.h>

enum shape { SQUARE, ROUND, GAUSSIAN, TOPHAT };
enum interpolation { NEAREST, TRICUBIC };

/* All arrays are contiguous float64. A pointer that is NULL is an argument that is absent or a result not wanted. */
struct lattice_args {
    int64_t n_pixels, n_sources, n_orientations, n_threads;
    int64_t shape, interpolation;
    int64_t first[3], count[3]; /* of the table: its first reflection and its extent */
    double default_F, dmin, culling;

    const double *diffracted; /* [P, 3] */
    const double *incident;   /* [S, 3] */
    const double *wavelength; /* [S] Å */
    const double *basis;      /* [K, 3, 3] rows a, b, c, Å */
    const double *n_cells;    /* [3] */
    const double *metric;     /* [3, 3] */
    const double *weight;     /* [K] */
    const double *table;      /* [count] amplitudes */

    double *value; /* [P, S] Σ_k weight·|F_cell|²·|F_latt|² */

    /* Reverse: grad is dL/d(value) [P, S]; the others are filled with dL/d(argument). */
    const double *grad;
    double *grad_diffracted, *grad_incident, *grad_wavelength;
    double *grad_basis, *grad_n_cells, *grad_metric, *grad_weight, *grad_table;

    /* Forward: T tangents of each argument, a leading axis of length T; tangent [T, P, S] is filled. */
    int64_t n_tangents;
    const double *dot_diffracted, *dot_incident, *dot_wavelength;
    const double *dot_basis, *dot_n_cells, *dot_metric, *dot_weight, *dot_table;
    double *tangent;
};

#endif
