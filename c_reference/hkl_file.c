/* Structure factor files: text "h k l F", and the binary dump. Input is not trusted: every count is bounded. */
#include "nanobragg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INDEX 100000

typedef struct { int h[3]; double F; } Reflection;

/* Returns 0 for a blank or comment line. Columns after F are ignored. */
static int parse_line(const char *path, long line, const char *text, Reflection *out) {
    double value[4];
    char *end;
    text += strspn(text, " \t\r\n");
    if (*text == '\0' || *text == '#') return 0;
    for (int i = 0; i < 4; i++) {
        value[i] = strtod(text, &end);
        if (end == text) fail("%s, line %ld: expected h k l F (is the file truncated?)", path, line);
        if (!isfinite(value[i])) fail("%s, line %ld: a value is not finite", path, line);
        text = end;
    }
    if (*text != '\0' && strchr(" \t\r\n,", *text) == NULL) fail("%s, line %ld: F is not a number", path, line);
    for (int i = 0; i < 3; i++) {
        if (value[i] != floor(value[i]) || fabs(value[i]) > MAX_INDEX)
            fail("%s, line %ld: %g is not a Miller index", path, line, value[i]);
        out->h[i] = (int)value[i];
    }
    out->F = value[3];
    return 1;
}

/* Reads on to the next reflection; 0 at the end of the file. */
static int next_reflection(FILE *file, const char *path, long *line, Reflection *out) {
    char text[1024];
    while (fgets(text, sizeof text, file) != NULL) {
        size_t size = strlen(text);
        ++*line;
        if (size == sizeof text - 1 && text[size - 1] != '\n') fail("%s, line %ld is too long", path, *line);
        if (parse_line(path, *line, text, out)) return 1;
    }
    if (ferror(file)) fail("%s: cannot be read", path);
    return 0;
}

/* Two passes over the file, the first for the index range: no list has to grow. */
void read_hkl_text(Factors *t, const char *path) {
    FILE *file = open_or_fail(path, "r");
    Reflection r;
    long line = 0, count = 0;
    while (next_reflection(file, path, &line, &r)) {
        for (int i = 0; i < 3; i++) {
            if (count == 0 || r.h[i] < t->min[i]) t->min[i] = r.h[i];
            if (count == 0 || r.h[i] > t->max[i]) t->max[i] = r.h[i];
        }
        count++;
    }
    if (count == 0) fail("%s holds no reflection", path);
    factors_allocate(t);
    rewind(file);
    line = 0;
    while (next_reflection(file, path, &line, &r)) {
        for (int i = 0; i < 3; i++) /* the file may have grown between the passes */
            if (r.h[i] < t->min[i] || r.h[i] > t->max[i]) fail("%s changed while it was read", path);
        *factors_at(t, r.h[0], r.h[1], r.h[2]) = r.F;
    }
    fclose(file);
}

/* Six integers and a newline, a form feed, then doubles over h, k, l, each range one longer than needed. */
void read_dump(Factors *t, const char *path) {
    FILE *file = open_or_fail(path, "rb");
    char head[256];
    double lost;
    if (fgets(head, sizeof head, file) == NULL
        || sscanf(head, "%d %d %d %d %d %d", &t->min[0], &t->max[0], &t->min[1], &t->max[1], &t->min[2], &t->max[2])
               != 6
        || fgetc(file) != '\f')
        fail("%s is not a structure factor dump", path);
    for (int i = 0; i < 3; i++)
        if (t->min[i] < -MAX_INDEX || t->max[i] > MAX_INDEX || t->min[i] > t->max[i])
            fail("%s: the index range %d to %d makes no sense", path, t->min[i], t->max[i]);
    factors_allocate(t);
    for (int h = t->min[0]; h <= t->max[0] + 1; h++)
        for (int k = t->min[1]; k <= t->max[1] + 1; k++) {
            int kept = h <= t->max[0] && k <= t->max[1];
            for (int l = t->min[2]; l <= t->max[2] + 1; l++) {
                double *place = kept && l <= t->max[2] ? factors_at(t, h, k, l) : &lost;
                if (fread(place, sizeof(double), 1, file) != 1) fail("%s is truncated", path);
                if (!isfinite(*place)) fail("%s: F(%d,%d,%d) is not finite", path, h, k, l);
            }
        }
    fclose(file);
}

void write_dump(const Factors *t, const char *path) {
    FILE *file = open_or_fail(path, "wb");
    fprintf(file, "%d %d %d %d %d %d\n\f", t->min[0], t->max[0], t->min[1], t->max[1], t->min[2], t->max[2]);
    for (int h = t->min[0]; h <= t->max[0] + 1; h++)
        for (int k = t->min[1]; k <= t->max[1] + 1; k++)
            for (int l = t->min[2]; l <= t->max[2] + 1; l++) {
                int stored = h <= t->max[0] && k <= t->max[1] && l <= t->max[2];
                double value = stored ? *factors_at(t, h, k, l) : t->default_F;
                if (fwrite(&value, sizeof value, 1, file) != 1) fail_system("cannot write %s", path);
            }
    if (fclose(file) != 0) fail_system("cannot write %s", path);
}
