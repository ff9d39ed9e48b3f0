/* Point sources: a divergence by dispersion grid, or a list from a file. All of them count equally. */
#include "nanobragg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SOURCES 20000000.0

static void add_source(Beam *b, Vec direction, double wavelength, Vec polar) {
    Source *s = &b->sources[b->n_sources++];
    if (!(wavelength > 0.0)) fail("a source would have the wavelength %g Angstrom", wavelength);
    s->incident = unit(scale(-1.0, direction));
    if (b->polarization != 0.0 && !b->no_polarization && length(cross(unit(polar), s->incident)) < 1e-6)
        fail("a source travels along the polarization vector: its polarization is not defined");
    s->magnetic = unit(cross(polar, s->incident));
    s->electric = unit(cross(s->incident, s->magnetic));
    s->wavelength = wavelength;
}

/* One axis of the elliptical cut. An even count has no point on the axis: the half step is discounted. */
static double ellipse_term(Steps s, double angle) {
    if (s.range <= 0.0) return 0.0;
    return (angle * angle - (s.n % 2 == 0 ? s.step * s.step / 4.0 : 0.0)) / (s.range * s.range);
}

static void generate(Beam *b, const Options *o, const Detector *d) {
    Steps h = beam_steps(o->div_steps[0], o->div_range[0], o->div_step[0]);
    Steps v = beam_steps(o->div_steps[1], o->div_range[1], o->div_step[1]);
    Steps w = beam_steps(o->dispsteps, or_default(o->dispersion, 0.0), NAN); /* the original's begins as 0 */
    double points = (double)h.n * v.n * w.n;
    Vec vertical = unit(cross(d->beam, d->polar));
    if (points > MAX_SOURCES) fail("%.3g sources are too many (at most %.0f)", points, MAX_SOURCES);
    b->sources = allocate(points, sizeof(Source), "the sources");
    for (int i = 0; i < h.n; i++) {
        for (int j = 0; j < v.n; j++) {
            double ha = i * h.step - h.range / 2.0, va = j * v.step - v.range / 2.0;
            Vec direction = turn(axis_rotation(d->polar, va), scale(-1.0, d->beam));
            if (!o->square_divergence && 4.0 * (ellipse_term(h, ha) + ellipse_term(v, va)) > 1.1) continue;
            direction = turn(axis_rotation(vertical, ha), direction);
            for (int k = 0; k < w.n; k++)
                add_source(b, direction, b->wavelength * (1.0 + k * w.step - w.range / 2.0), d->polar);
        }
    }
    if (b->n_sources == 0) fail("the round divergence cut leaves no source");
}

/* x y z weight wavelength[m], each optional from the right; returns 0 for a line without a number. */
static int parse_source(const char *path, int line, const char *text, Vec beam, double *out) {
    int columns = 0;
    const char *cursor = text;
    out[0] = -10.0 * beam.x;
    out[1] = -10.0 * beam.y;
    out[2] = -10.0 * beam.z;
    out[3] = 1.0;
    for (char *end; columns < 5; cursor = end) {
        double value = strtod(cursor, &end);
        if (end == cursor) break;
        if (!isfinite(value)) fail("%s, line %d: a value is not finite", path, line);
        out[columns++] = value;
    }
    if (columns < 5) cursor += strspn(cursor, " \t\r\n");
    if (columns < 5 && *cursor != '\0' && *cursor != '#') fail("%s, line %d: '%s' is not a number", path, line, cursor);
    if (columns == 5 && !(out[4] > 0.0)) fail("%s, line %d: the wavelength must be positive", path, line);
    return columns;
}

static void read_sources(Beam *b, const Options *o, const Detector *d) {
    FILE *file = open_or_fail(o->source_file, "r");
    char text[1024];
    double row[5], capacity = 0.0, weighted = 0.0;
    int line = 0, columns;
    while (fgets(text, sizeof text, file) != NULL) capacity++; /* an upper bound: long lines count twice */
    rewind(file);
    if (capacity > MAX_SOURCES) fail("%s: more than %.0f sources", o->source_file, MAX_SOURCES);
    if (capacity < 1.0) fail("%s holds no source", o->source_file);
    b->sources = allocate(capacity, sizeof(Source), "the sources");
    while (fgets(text, sizeof text, file) != NULL && b->n_sources < (int)capacity) {
        line++;
        if (strlen(text) == sizeof text - 1) fail("%s, line %d is too long", o->source_file, line);
        columns = parse_source(o->source_file, line, text, d->beam, row);
        if (columns == 0) continue;
        if (columns >= 4 && row[3] != 1.0) weighted++;
        if (length(vec_from(row)) == 0.0) fail("%s, line %d: a source has no direction", o->source_file, line);
        add_source(b, vec_from(row), columns == 5 ? row[4] * 1e10 : b->wavelength, d->polar);
    }
    fclose(file);
    if (b->n_sources == 0) fail("%s holds no source", o->source_file);
    if (weighted > 0.0) warn("%s: weights are read and ignored, all sources count equally", o->source_file);
}

void sources_build(Beam *b, const Options *o, const Detector *d) {
    b->n_sources = 0;
    if (o->source_file != NULL)
        read_sources(b, o, d);
    else
        generate(b, o, d);
}
