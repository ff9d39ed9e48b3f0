/* SMV: geometry and masks from a header, and the header of what is written. */
#include "nanobragg.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 512
#define MAX_HEADER 65536

/* The text of the header, closed by a NUL; the caller frees it. */
static char *load_header(FILE *file, const char *path) {
    char *text = allocate(MAX_HEADER + 1, 1, "an image header");
    size_t size = fread(text, 1, MAX_HEADER, file);
    char *close;
    text[size] = '\0';
    close = memchr(text, '}', size);
    if (text[0] != '{' || close == NULL) fail("%s: no SMV header", path);
    *close = '\0';
    return text;
}

/* Points at the value of KEY=value; or NULL. A key starts a line or follows a semicolon or the brace. */
static const char *find_key(const char *header, const char *key) {
    size_t size = strlen(key);
    for (const char *at = strstr(header, key); at != NULL; at = strstr(at + 1, key)) {
        const char *before = at;
        while (before > header && strchr(" \t\r\n", before[-1]) != NULL) before--;
        if (before > header && before[-1] != ';' && before[-1] != '{' && before == at) continue;
        if (at[size + strspn(at + size, " ")] == '=') return at + size + strspn(at + size, " ") + 1;
    }
    return NULL;
}

static double header_number(const char *header, const char *key, const char *path) {
    const char *text = find_key(header, key);
    char *end;
    double value;
    if (text == NULL) return NAN;
    value = strtod(text, &end);
    if (end == text || !isfinite(value)) fail("%s: %s in the header is not a number", path, key);
    return value;
}

static void take(double *field, double value) {
    if (given(value)) *field = value;
}

static void check_header(const Options *o, const char *path) {
    const double positive[] = {o->n_pixels[0], o->n_pixels[1], o->pixel, o->distance, o->close_distance, o->wavelength};
    for (size_t i = 0; i < sizeof positive / sizeof positive[0]; i++)
        if (given(positive[i]) && !(positive[i] > 0.0))
            fail("%s: a size, a distance or the wavelength in the header is not positive", path);
    for (int i = 0; i < 2; i++)
        if (given(o->n_pixels[i]) && (o->n_pixels[i] != floor(o->n_pixels[i]) || o->n_pixels[i] > 1e6))
            fail("%s: SIZE in the header is not a pixel count", path);
}

/* The pivot that the keys imply, as if they were flags in this order. */
static void imply_pivot(Options *o, const char *header) {
    const struct { const char *key; enum pivot pivot; } implied[] = {
        {"DISTANCE", PIVOT_BEAM}, {"CLOSE_DISTANCE", PIVOT_SAMPLE}, {"BEAM_CENTER_X", PIVOT_BEAM},
        {"BEAM_CENTER_Y", PIVOT_BEAM}, {"ORGX", PIVOT_SAMPLE}, {"ORGY", PIVOT_SAMPLE}, {"TWOTHETA", PIVOT_SAMPLE}};
    for (size_t i = 0; i < sizeof implied / sizeof implied[0]; i++)
        if (find_key(header, implied[i].key) != NULL) o->pivot_implied = implied[i].pivot;
}

/* Each key acts as its flag would, the pivot it implies included; the flags on the command line come after. */
void read_smv_header(Options *o, const char *path, int is_mask) {
    FILE *file = open_or_fail(path, "rb");
    char *header = load_header(file, path);
    double center_y = header_number(header, "BEAM_CENTER_Y", path);
    fclose(file);
    take(&o->n_pixels[0], header_number(header, "SIZE1", path));
    take(&o->n_pixels[1], header_number(header, "SIZE2", path));
    take(&o->pixel, header_number(header, "PIXEL_SIZE", path));
    take(&o->distance, header_number(header, "DISTANCE", path));
    take(&o->close_distance, header_number(header, "CLOSE_DISTANCE", path));
    take(&o->wavelength, header_number(header, "WAVELENGTH", path));
    take(&o->beam_center[0], header_number(header, "BEAM_CENTER_X", path));
    take(&o->org[0], header_number(header, "ORGX", path));
    take(&o->org[1], header_number(header, "ORGY", path));
    take(&o->phi, header_number(header, "PHI", path));
    take(&o->osc, header_number(header, "OSC_RANGE", path));
    take(&o->twotheta, header_number(header, "TWOTHETA", path));
    check_header(o, path);
    /* a mask counts Y from the far edge */
    if (is_mask) center_y = or_default(o->n_pixels[1], 1024.0) * or_default(o->pixel, 0.1) - center_y;
    take(&o->beam_center[1], center_y);
    imply_pivot(o, header);
    free(header);
}

/* 1 where the mask's 16-bit pixel is not zero; the byte order does not matter for that. */
unsigned char *read_mask(const char *path, int n_fast, int n_slow) {
    FILE *file = open_or_fail(path, "rb");
    char *header = load_header(file, path);
    double offset = or_default(header_number(header, "HEADER_BYTES", path), HEADER_SIZE);
    const char *type = find_key(header, "TYPE");
    unsigned char *mask, pair[2];
    size_t count = (size_t)n_fast * (size_t)n_slow;
    if (header_number(header, "SIZE1", path) != n_fast || header_number(header, "SIZE2", path) != n_slow)
        fail("%s: the mask is not %d by %d pixels, the detector is", path, n_fast, n_slow);
    if (type != NULL && strncmp(type, "unsigned_short", 14) != 0) fail("%s: the mask is not unsigned_short", path);
    if (!(offset >= 2.0 && offset <= MAX_HEADER) || fseek(file, (long)offset, SEEK_SET) != 0)
        fail("%s: HEADER_BYTES makes no sense", path);
    mask = allocate((double)count, 1, "the mask");
    for (size_t i = 0; i < count; i++) {
        if (fread(pair, 1, 2, file) != 2) fail("%s is truncated", path);
        mask[i] = pair[0] != 0 || pair[1] != 0;
    }
    free(header);
    fclose(file);
    return mask;
}

static const char *byte_order(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 1 ? "little_endian" : "big_endian";
}

static int header_text(char *text, size_t size, const Scene *s) {
    const Detector *d = &s->detector;
    const Crystal *c = &s->crystal;
    double half = d->pixel / 2.0;
    return snprintf(text, size,
        "{\nHEADER_BYTES=512;\nDIM=2;\nBYTE_ORDER=%s;\nTYPE=unsigned_short;\nSIZE1=%d;\nSIZE2=%d;\nPIXEL_SIZE=%g;\n"
        "DISTANCE=%g;\nWAVELENGTH=%g;\nBEAM_CENTER_X=%g;\nBEAM_CENTER_Y=%g;\nADXV_CENTER_X=%g;\nADXV_CENTER_Y=%g;\n"
        "MOSFLM_CENTER_X=%g;\nMOSFLM_CENTER_Y=%g;\nDENZO_X_BEAM=%g;\nDENZO_Y_BEAM=%g;\nDIALS_ORIGIN=%g,%g,%g;\n"
        "XDS_ORGX=%g;\nXDS_ORGY=%g;\nCLOSE_DISTANCE=%g;\nPHI=%g;\nOSC_START=%g;\nOSC_RANGE=%g;\nTWOTHETA=%g;\n"
        "DETECTOR_SN=000;\nBEAMLINE=fake;\n}\f",
        byte_order(), d->n_fast, d->n_slow, d->pixel, d->distance, s->beam.wavelength, d->Xbeam, d->Ybeam, d->Fbeam,
        d->detsize_slow - d->Sbeam, d->Sbeam - half, d->Fbeam - half, d->Sbeam, d->Fbeam, d->pix0.z, d->pix0.y,
        -d->pix0.x, d->orgx, d->orgy, d->close_distance, c->phi, c->phi, c->osc, d->twotheta);
}

/* Padded with spaces to 512 bytes; a longer header pushes the data, as in the original. */
void write_smv(const char *path, const Scene *s, const uint16_t *pixels) {
    FILE *file = open_or_fail(path, "wb");
    size_t count = (size_t)s->detector.n_fast * s->detector.n_slow;
    char text[2048];
    int size = header_text(text, sizeof text, s);
    fwrite(text, 1, (size_t)size, file);
    for (; size < HEADER_SIZE; size++) fputc(' ', file);
    if (fwrite(pixels, sizeof *pixels, count, file) != count || fclose(file) != 0)
        fail_system("cannot write %s: %s", path, strerror(errno));
}
