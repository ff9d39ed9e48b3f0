/* Reading the command line: one table (flag_table.c), exact names, every value checked. */
#include "flag_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int given(double value) { return !isnan(value); }

double or_default(double value, double fallback) { return given(value) ? value : fallback; }

/* Every numeric field starts as NAN, "not given", so that the step rules and the beam centre can tell; those
 * whose default is a plain number get it here. */
void options_defaults(Options *o) {
    memset(o, 0, sizeof *o);
    for (const Flag *f = FLAGS; f->name != NULL; f++) {
        double *field = (double *)((char *)o + f->offset);
        if (f->kind == REAL || f->kind == INTEGER || f->kind == REALS || f->kind == INTEGERS)
            for (int i = 0; i < f->count; i++) field[i] = NAN;
    }
    o->fudge = 1.0;
    o->adc = 40.0;
    o->seed = o->mosaic_seed = -12345678.0;
    o->default_F = o->d_min = o->phi = o->polarization = o->water = o->twotheta = 0.0;
    o->rot[0] = o->rot[1] = o->rot[2] = 0.0;
}

static const Flag *find_flag(const char *name) {
    for (const Flag *f = FLAGS; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0) return f;
    return NULL;
}

/* How many words follow before the next flag: a flag is never taken for a missing value. */
static int count_values(int argc, char **argv) {
    int n = 0;
    while (n < argc && find_flag(argv[n]) == NULL) n++;
    return n;
}

static double number(const Flag *f, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || isnan(value)) fail("%s: '%s' is not a number", f->name, text);
    if (isinf(value) && f->check != POSITIVE_OR_INF) fail("%s: '%s' is not finite", f->name, text);
    if (f->check == NOT_NEGATIVE && value < 0.0) fail("%s must not be negative, got %s", f->name, text);
    if ((f->check == POSITIVE || f->check == POSITIVE_OR_INF) && !(value > 0.0))
        fail("%s must be positive, got %s", f->name, text);
    if ((f->kind == INTEGER || f->kind == INTEGERS) && (value != floor(value) || fabs(value) > 2147483647.0))
        fail("%s takes an integer, got '%s'", f->name, text);
    return value * f->scale;
}

static void check_vector(const Flag *f, const double *v) {
    if (v[0] == 0.0 && v[1] == 0.0 && v[2] == 0.0) fail("%s must not be the null vector", f->name);
}

/* What a flag implies beyond its own value. */
static void apply_effect(Options *o, const Flag *f) {
    if (f->effect == CHOOSE_BEAM) o->pivot_implied = PIVOT_BEAM;
    if (f->effect == CHOOSE_SAMPLE) o->pivot_implied = PIVOT_SAMPLE;
    if (f->effect == IS_VECTOR) o->vector_given = 1;
    if (f->effect == IS_ORIGIN) o->vector_given = 1;
    if (f->effect == IS_CONVENTION) o->convention_given = 1;
    if (f->effect == IS_ENERGY) o->wavelength = EV_ANGSTROM / o->wavelength;
    if (f->effect == IS_EXACT) o->exact_cell = o->exact_corrections = o->phi_midpoint = 1;
}

static void read_misset(Options *o, const Flag *f, char **values, int available, int *used) {
    if (available >= 1 && strcmp(values[0], "random") == 0) {
        o->misset_random = 1;
        *used = 1;
        return;
    }
    if (available < 3 || strchr("+-.0123456789", values[0][0]) == NULL)
        fail("-misset takes three angles in degrees, or the word random");
    for (int i = 0; i < 3; i++) o->misset[i] = number(f, values[i]);
    o->misset_random = 0;
    *used = 3;
}

static void read_word(Options *o, const Flag *f, const char *word) {
    if (f->kind == COMPAT) {
        if (strcmp(word, "nanobragg") != 0) fail("-compat knows only 'nanobragg', got '%s'", word);
        o->compat = 1;
        return;
    }
    if (strcmp(word, "sample") == 0)
        o->pivot_explicit = PIVOT_SAMPLE;
    else if (strcmp(word, "beam") == 0)
        o->pivot_explicit = PIVOT_BEAM;
    else
        fail("-pivot is 'sample' or 'beam', got '%s'", word);
}

/* Stores one flag; returns how many values it consumed. */
static int store(Options *o, const Flag *f, char **values, int available, int quiet) {
    char *field = (char *)o + f->offset;
    int used = f->kind == REALS || f->kind == INTEGERS || f->kind == IGNORED ? f->count : f->kind != CHOICE;
    if (f->kind == MISSET) {
        read_misset(o, f, values, available, &used);
        return used;
    }
    if (available < used) fail("%s needs %d value%s, got %d", f->name, used, used == 1 ? "" : "s", available);
    switch (f->kind) {
    case CHOICE: *(int *)field = (int)f->scale; break;
    case TEXT: *(const char **)field = values[0]; break;
    case REAL:
    case INTEGER:
        for (int i = 0; i < f->count; i++) ((double *)field)[i] = number(f, values[0]);
        break;
    case REALS:
    case INTEGERS:
        for (int i = 0; i < f->count; i++) ((double *)field)[i] = number(f, values[i]);
        if (f->effect == IS_VECTOR) check_vector(f, (double *)field);
        break;
    case IGNORED:
        if (f->count > 0 && !quiet) warn("%s is accepted and has no effect here", f->name);
        break;
    default: read_word(o, f, values[0]);
    }
    return used;
}

void parse_flags(Options *o, int argc, char **argv, int quiet) {
    for (int i = 1; i < argc; i++) {
        const Flag *f = find_flag(argv[i]);
        if (f == NULL) fail("unknown flag '%s'", argv[i]);
        i += store(o, f, argv + i + 1, count_values(argc - i - 1, argv + i + 1), quiet);
        apply_effect(o, f);
    }
}
