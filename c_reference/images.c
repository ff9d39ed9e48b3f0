/* What leaves the program: statistics, float, integer, noise and PGM images. */
#include "nanobragg.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* max, mean and rms over the pixels rendered; rmsd over every pixel of the region about that same mean. */
Statistics image_statistics(const Scene *s, const float *image) {
    const int *roi = s->detector.roi;
    Statistics out = {0.0, 0.0, 0.0, 0.0};
    double n = 0.0, area = 0.0, sum = 0.0, squares = 0.0, deviations = 0.0;
    for (int pass = 0; pass < 2; pass++)
        for (int slow = roi[2]; slow <= roi[3]; slow++)
            for (int fast = roi[0]; fast <= roi[1]; fast++) {
                size_t i = (size_t)slow * s->detector.n_fast + fast;
                double value = image[i];
                if (pass == 1) {
                    deviations += (value - out.mean) * (value - out.mean);
                    area++;
                } else if (s->mask == NULL || s->mask[i] != 0) {
                    if (n == 0.0 || value > out.max) out.max = value;
                    sum += value;
                    squares += value * value;
                    out.mean = sum / ++n;
                }
            }
    if (n > 1.0) out.rms = sqrt(squares / (n - 1.0));
    if (area > 1.0) out.rmsd = sqrt(deviations / (area - 1.0));
    return out;
}

static uint16_t clip(double value, double *overloads) {
    if (!(value >= 0.0)) return 0;
    if (value > 65535.0) {
        ++*overloads;
        return 65535;
    }
    return (uint16_t)value;
}

static void write_bytes(const char *path, const char *head, const void *data, size_t size, size_t count) {
    FILE *file = open_or_fail(path, "wb");
    fputs(head, file);
    if (fwrite(data, size, count, file) != count || fclose(file) != 0)
        fail_system("cannot write %s: %s", path, strerror(errno));
}

/* Pixels outside the region of interest stay 0 and get no adc; masked ones inside it get it like any zero. */
static int outside_roi(const Scene *s, size_t i) {
    const int *roi = s->detector.roi;
    int slow = (int)(i / (size_t)s->detector.n_fast), fast = (int)(i % (size_t)s->detector.n_fast);
    return fast < roi[0] || fast > roi[1] || slow < roi[2] || slow > roi[3];
}

static void write_integer(const Scene *s, const Options *o, const float *image, double max) {
    size_t count = (size_t)s->detector.n_fast * s->detector.n_slow;
    uint16_t *pixels = allocate((double)count, sizeof *pixels, "the integer image");
    double scale = or_default(o->intensity_scale, 0.0), overloads = 0.0;
    if (scale <= 0.0) scale = max > 0.0 ? 55000.0 / max : 1.0;
    for (size_t i = 0; i < count; i++)
        if (!outside_roi(s, i)) pixels[i] = clip(floor(image[i] * scale + o->adc + 0.5), &overloads);
    printf("intfile_scale: %.9g\nint_overloads: %.0f\n", scale, overloads);
    write_smv(o->int_file, s, pixels);
    free(pixels);
}

static void write_noise(const Scene *s, const Options *o, const float *image) {
    size_t count = (size_t)s->detector.n_fast * s->detector.n_slow;
    uint16_t *pixels = allocate((double)count, sizeof *pixels, "the noise image");
    double overloads = 0.0;
    Random random;
    random_seed(&random, o->seed);
    for (size_t i = 0; i < count; i++)
        if (!outside_roi(s, i)) pixels[i] = clip(random_poisson(&random, image[i]) + floor(o->adc + 0.5), &overloads);
    printf("noise_overloads: %.0f\n", overloads);
    write_smv(o->noise_file, s, pixels);
    free(pixels);
}

static void write_pgm(const Scene *s, const Options *o, const float *image, double rmsd) {
    size_t count = (size_t)s->detector.n_fast * s->detector.n_slow;
    unsigned char *pixels = allocate((double)count, 1, "the PGM image");
    double scale = or_default(o->pgm_scale, 0.0);
    char head[128];
    if (scale <= 0.0) scale = rmsd > 0.0 ? 250.0 / (5.0 * rmsd) : 1.0;
    for (size_t i = 0; i < count; i++) {
        double value = image[i] * scale;
        pixels[i] = value >= 255.0 ? 255 : value > 0.0 ? (unsigned char)value : 0;
    }
    snprintf(head, sizeof head, "P5\n%d %d\n# pixels scaled by %g\n255\n", s->detector.n_fast, s->detector.n_slow,
             scale);
    write_bytes(o->pgm_file, head, pixels, 1, count);
    free(pixels);
}

/* Only what a flag asked for. */
void write_images(const Scene *s, const Options *o, const float *image, const Statistics *stats) {
    size_t count = (size_t)s->detector.n_fast * s->detector.n_slow;
    if (o->float_file != NULL) write_bytes(o->float_file, "", image, sizeof *image, count);
    if (o->int_file != NULL) write_integer(s, o, image, stats->max);
    if (o->pgm_file != NULL && !o->no_pgm) write_pgm(s, o, image, stats->rmsd);
    if (o->noise_file != NULL && !o->no_noise) write_noise(s, o, image);
}
