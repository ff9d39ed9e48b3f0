/* nanoBragg_c: the second opinion that ships.
 *
 * A small scalar C99 program that computes a far-field diffraction image of a mosaic nanocrystal, with
 * nanoBragg's flags, conventions and trace lines. It shares nothing with the Python package: no source, no
 * tables, no build step. It was written from the project's physics text, one file a subject, in double
 * precision and in the plainest order of the sums, and is held to the golden images pixel by pixel. When the
 * Python and this program agree, the agreement means something; when they differ, a trace of one pixel
 * (-trace_pixel S F) says where.
 *
 * Units inside: mm for the detector, Angstrom for the crystal and the wavelength, radians for angles. Metres
 * appear only where the original's numbers need them: traces, fluence, water and point pixels.
 */
#ifndef NANOBRAGG_H
#define NANOBRAGG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PI 3.14159265358979323846
#define RADIANS (PI / 180.0)
#define R_E_SQR 7.94079248018965e-30 /* classical electron radius squared, m^2 */
#define AVOGADRO 6.02214179e23
#define EV_ANGSTROM 12398.42
#define MAX_BYTES 2147483648.0 /* refuse any single allocation beyond 2 GB */

/* ---- vectors.c ---------------------------------------------------------------------------------------- */
typedef struct { double x, y, z; } Vec;
typedef struct { Vec row[3]; } Mat;
typedef struct { Vec a, b, c; } Basis; /* direct or reciprocal cell vectors */

Vec vec(double x, double y, double z);
Vec vec_from(const double *xyz);
Vec add(Vec u, Vec v);
Vec scale(double k, Vec v);
Vec cross(Vec u, Vec v);
double dot(Vec u, Vec v);
double length(Vec v);
Vec unit(Vec v);
Mat axis_rotation(Vec axis, double angle);
Mat xyz_rotation(double rx, double ry, double rz); /* about lab x, then y, then z */
Mat matmul(Mat m, Mat n);
Vec turn(Mat m, Vec v);
Basis turn_basis(Mat m, Basis v);

/* ---- errors.c ----------------------------------------------------------------------------------------- */
void fail(const char *format, ...);            /* what the user gave is wrong: message, exit code 2 */
void fail_system(const char *format, ...);     /* the machine refused (memory, disk): exit code 1 */
void warn(const char *format, ...);
void *allocate(double count, size_t size, const char *what);
FILE *open_or_fail(const char *path, const char *mode);

/* ---- flags.c: what the user stated; NAN, NULL and 0 mean "not given" --------------------------------- */
enum convention { MOSFLM, DENZO, ADXV, XDS, DIALS, CUSTOM };
enum pivot { PIVOT_UNSET, PIVOT_BEAM, PIVOT_SAMPLE };
enum shape { SQUARE, ROUND, GAUSS, TOPHAT, GAUSS_HKL };
enum interpolation { INTERPOLATE_AUTO, INTERPOLATE_ON, INTERPOLATE_OFF };

typedef struct {
    /* crystal */
    double cell[6], misset[3], n_cells[3], sample[3], default_F, fudge, d_min;
    double mosaic, mosaic_count, phi, osc, phistep, phisteps;
    double seed, mosaic_seed, misset_seed;
    int misset_random, shape, interpolate, exact_cell, phi_midpoint;
    const char *mat_file, *hkl_file, *dump_file;
    /* beam: divergence arrays are {horizontal, vertical} */
    double wavelength, dispersion, dispsteps, div_range[2], div_step[2], div_steps[2];
    double polarization, fluence, flux, exposure, beamsize, water;
    int square_divergence, no_polarization;
    const char *source_file;
    /* detector: pairs are {fast, slow} or {X, Y} */
    double pixel, n_pixels[2], detsize[2], distance, close_distance, rot[3], twotheta;
    double beam_center[2], close_center[2], org[2];
    double absorption, thickness, layers;
    double fast_vec[3], slow_vec[3], normal_vec[3], beam_vec[3], polar_vec[3], spindle_vec[3], twotheta_vec[3];
    double pix0[3], roi[4];
    int convention, vector_given, convention_given, pivot_implied, pivot_explicit, curved, point_pixel;
    const char *img_file, *mask_file;
    /* rendering and output */
    double oversample, trace_pixel[2], intensity_scale, adc, pgm_scale;
    int over_thick, over_polar, over_omega, exact_corrections, compat, trace_all, no_noise, no_pgm;
    const char *float_file, *int_file, *pgm_file, *noise_file;
} Options;

void options_defaults(Options *o);
void parse_flags(Options *o, int argc, char **argv, int quiet);
int given(double value);
double or_default(double value, double fallback);

/* ---- steps.c: how a count, a range and a step complete each other ------------------------------------- */
typedef struct { int n; double range, step; } Steps;
Steps beam_steps(double count, double range, double step);
Steps spindle_steps(double count, double range, double step);

/* ---- random.c ----------------------------------------------------------------------------------------- */
typedef struct { int32_t state, last, shuffle[32]; } Random;
void random_seed(Random *r, double seed);
float random_uniform(Random *r);
Mat random_rotation(Random *r, double spread);
double random_poisson(Random *r, double mean);

/* ---- detector.c, placement.c -------------------------------------------------------------------------- */
typedef struct {
    int n_fast, n_slow, n_layers, curved, point_pixel, pivot;
    double pixel, detsize_fast, detsize_slow, distance, close_distance, layer_step, attenuation, twotheta;
    double Xbeam, Ybeam, Fbeam, Sbeam, Fclose, Sclose, orgx, orgy;
    Vec fast, slow, normal, beam, polar, spindle, twotheta_axis, pix0;
    int roi[4];
} Detector;

typedef struct { Vec position, direction; double airpath; } Ray;

void detector_build(Detector *d, const Options *o);
void detector_place(Detector *d, const Options *o);
Ray detector_ray(const Detector *d, double fast_mm, double slow_mm, double depth);
double solid_angle(const Detector *d, const Ray *ray);
double capture_fraction(const Detector *d, const Ray *ray, int layer);

/* ---- beam.c, sources.c -------------------------------------------------------------------------------- */
typedef struct { Vec incident, electric, magnetic; double wavelength; } Source;

typedef struct {
    int n_sources, no_polarization;
    double wavelength, polarization, fluence, beamsize, background;
    Source *sources;
} Beam;

void beam_build(Beam *b, const Options *o, const Detector *d);
void sources_build(Beam *b, const Options *o, const Detector *d);
double polarization_factor(const Beam *b, const Source *s, Vec diffracted);

/* ---- crystal.c, orientation.c ------------------------------------------------------------------------- */
typedef struct {
    Basis direct, star;   /* after misset, before spindle and mosaic */
    double cell[6];       /* the cell that is really simulated */
    double n[3], misset[3], fudge, d_min, phi, osc;
    int shape, n_phi, n_mosaic, n_is_even[3];
    Basis *orientations;  /* direct vectors, mosaic fastest, n_phi * n_mosaic of them */
} Crystal;

void crystal_build(Crystal *c, const Options *o, const Beam *b);
void orientations_build(Crystal *c, const Options *o, Vec spindle);

/* ---- lattice.c ---------------------------------------------------------------------------------------- */
typedef struct { double hkl[3], nearest[3], axis[3], lattice, cell; } Term;
double lattice_factor(const Crystal *c, Term *t);

/* ---- structure_factor.c, hkl_file.c ------------------------------------------------------------------- */
typedef struct {
    int min[3], max[3], interpolate;
    size_t n[3];
    double default_F, *values; /* values is NULL without a table */
} Factors;

void factors_build(Factors *t, const Options *o, const Crystal *c);
void factors_allocate(Factors *t);
double *factors_at(const Factors *t, int h, int k, int l);
double structure_factor(const Factors *t, const Term *term);
void read_hkl_text(Factors *t, const char *path);
void read_dump(Factors *t, const char *path);
void write_dump(const Factors *t, const char *path);

/* ---- render.c, trace.c -------------------------------------------------------------------------------- */
typedef struct {
    Detector detector;
    Beam beam;
    Crystal crystal;
    Factors factors;
    int oversample, over_thick, over_polar, over_omega, exact_corrections, trace_slow, trace_fast, trace_all;
    double steps;
    unsigned char *mask; /* NULL: every pixel counts */
} Scene;

/* What is printed of a sample, and which one it is. */
enum traced { NOT_TRACED, TRACED, TRACED_ALL };
typedef struct { enum traced traced; int sample, source; } Index;

/* The running state of one pixel: I(p) and the three corrections as they stand. */
typedef struct { double sum, capture, polar, omega, cos_2theta, exact_weight; } Pixel;

void scene_build(Scene *s, const Options *o);
void scene_free(Scene *s);
double render(const Scene *s, float *image); /* returns the number of lattice evaluations */
void trace_sample(const Scene *s, const Ray *ray, const Source *src, const Pixel *p, const Term *t);
void trace_term(const Scene *s, const Ray *ray, const Source *src, const Term *t, Index at, int orientation);
void trace_pixel(const Scene *s, const Pixel *p, double final);

/* ---- smv.c, images.c ---------------------------------------------------------------------------------- */
typedef struct { double max, mean, rms, rmsd; } Statistics;

void read_smv_header(Options *o, const char *path, int is_mask);
unsigned char *read_mask(const char *path, int n_fast, int n_slow);
void write_smv(const char *path, const Scene *s, const uint16_t *pixels);
Statistics image_statistics(const Scene *s, const float *image);
void write_images(const Scene *s, const Options *o, const float *image, const Statistics *stats);

#endif
