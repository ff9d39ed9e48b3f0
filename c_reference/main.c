/* Flags in, image out. */
#define _POSIX_C_SOURCE 199309L
#include "nanobragg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A flag says the same thing as another key of the header: -distance as CLOSE_DISTANCE, -detsize as SIZE1, 2. */
static void yield_to_flags(Options *o, const Options *flags) {
    if (given(flags->distance)) o->close_distance = NAN;
    for (int i = 0; i < 2; i++)
        if (given(flags->detsize[i])) o->n_pixels[i] = NAN;
}

static int last_mention(int argc, char **argv, const char *name) {
    while (argc > 0 && strcmp(argv[argc - 1], name) != 0) argc--;
    return argc;
}

/* The headers of -img and -mask come first, wherever they stand, so that every other flag overrides them; of the
 * two the one named last wins. */
static void read_options(Options *o, int argc, char **argv) {
    int img_wins = last_mention(argc, argv, "-img") > last_mention(argc, argv, "-mask");
    Options flags;
    options_defaults(&flags);
    parse_flags(&flags, argc, argv, 1);
    options_defaults(o);
    if (flags.img_file != NULL && !img_wins) read_smv_header(o, flags.img_file, 0);
    if (flags.mask_file != NULL) read_smv_header(o, flags.mask_file, 1);
    if (flags.img_file != NULL && img_wins) read_smv_header(o, flags.img_file, 0);
    yield_to_flags(o, &flags);
    parse_flags(o, argc, argv, 0);
}

static void report(const Scene *s) {
    const double *c = s->crystal.cell;
    const Detector *d = &s->detector;
    const double *m = s->crystal.misset;
    printf("cell: %g %g %g %g %g %g\n", c[0], c[1], c[2], c[3], c[4], c[5]);
    printf("misset: %.9g %.9g %.9g\n", m[0] / RADIANS, m[1] / RADIANS, m[2] / RADIANS);
    printf("crystal_cells: %g %g %g\n", s->crystal.n[0], s->crystal.n[1], s->crystal.n[2]);
    printf("detector: %d %d\n", d->n_fast, d->n_slow);
    printf("dials_origin: %g,%g,%g\n", d->pix0.z, d->pix0.y, -d->pix0.x);
    printf("sources: %d\n", s->beam.n_sources);
    printf("phi_steps: %d\nmosaic_domains: %d\n", s->crystal.n_phi, s->crystal.n_mosaic);
    printf("layers: %d\noversample: %d\n", d->n_layers, s->oversample);
    printf("interpolation: %s\n", s->factors.interpolate ? "on" : "off");
    printf("fluence: %g\n", s->beam.fluence);
    if (!s->exact_corrections && (s->over_thick || s->over_polar || s->over_omega) && s->steps * d->n_layers > 1.0)
        warn("-oversample_thick, _polar and _omega multiply the whole running sum at every step, as nanoBragg does; "
             "-exact_corrections weights each term instead");
}

int main(int argc, char **argv) {
    Options options;
    Scene scene;
    Statistics stats;
    float *image;
    double start, evaluations;
    if (argc < 2) fail("usage: nanoBragg_c -cell a b c alpha beta gamma -default_F F [flags]; see README.md");
    read_options(&options, argc, argv);
    scene_build(&scene, &options);
    report(&scene);
    image = allocate((double)scene.detector.n_fast * scene.detector.n_slow, sizeof *image, "the image");
    start = seconds();
    evaluations = render(&scene, image);
    printf("render_seconds: %.6f\nevaluations: %.0f\n", seconds() - start, evaluations);
    stats = image_statistics(&scene, image);
    printf("max_I: %g\nmean: %g\nrms: %g\nrmsd: %g\n", stats.max, stats.mean, stats.rms, stats.rmsd);
    write_images(&scene, &options, image, &stats);
    free(image);
    scene_free(&scene);
    return 0;
}
