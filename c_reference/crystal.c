/* Unit cell, orientation and size of the crystal. */
#include "nanobragg.h"

#include <math.h>
#include <string.h>

/* The dual basis, from the volume the caller believes in: a* = (b x c)/V, and the other way round. */
static Basis dual(Basis v, double inverse_volume) {
    Basis out = {scale(inverse_volume, cross(v.b, v.c)), scale(inverse_volume, cross(v.c, v.a)),
                 scale(inverse_volume, cross(v.a, v.b))};
    return out;
}

static double triple(Basis v) { return dot(v.a, cross(v.b, v.c)); }

static double clamp_cosine(double c) { return c > 1.0 ? 1.0 : c < -1.0 ? -1.0 : c; }

static double angle_between(Vec u, Vec v) { return acos(clamp_cosine(dot(unit(u), unit(v)))) / RADIANS; }

/* a* along x, b* in the xy plane. The z component of c* is 1/c; the original writes V/(a b c sin gamma*) times
 * c*, which agrees only for alpha = beta = 90 degrees. It simulates another cell then, and parity needs it. */
static Basis stars_from_cell(const double *cell, int exact, double *volume) {
    double a = cell[0], b = cell[1], c = cell[2];
    double ca = cos(cell[3] * RADIANS), cb = cos(cell[4] * RADIANS), cg = cos(cell[5] * RADIANS);
    double sa = sin(cell[3] * RADIANS), sb = sin(cell[4] * RADIANS), sg = sin(cell[5] * RADIANS);
    double skew = 1.0 - ca * ca - cb * cb - cg * cg + 2.0 * ca * cb * cg;
    double as, bs, cs, ca_star, cb_star, cg_star, sg_star, z;
    Basis star;
    if (!(skew > 1e-12)) fail("-cell: no cell has the angles %g %g %g", cell[3], cell[4], cell[5]);
    *volume = a * b * c * sqrt(skew);
    as = b * c * sa / *volume;
    bs = c * a * sb / *volume;
    cs = a * b * sg / *volume;
    ca_star = clamp_cosine((cb * cg - ca) / (sb * sg));
    cb_star = clamp_cosine((cg * ca - cb) / (sg * sa));
    cg_star = clamp_cosine((ca * cb - cg) / (sa * sb));
    sg_star = sqrt(1.0 - cg_star * cg_star);
    z = exact ? 1.0 / c : cs * *volume / (a * b * c * sg_star);
    star.a = vec(as, 0.0, 0.0);
    star.b = vec(bs * cg_star, bs * sg_star, 0.0);
    star.c = vec(cs * cb_star, cs * (ca_star - cb_star * cg_star) / sg_star, z);
    return star;
}

/* A MOSFLM matrix: rows x, y, z, columns a*, b*, c*, all multiplied by the wavelength. */
static Basis stars_from_matrix(const char *path, double wavelength) {
    FILE *file = open_or_fail(path, "r");
    double m[9];
    Basis star;
    for (int i = 0; i < 9; i++)
        if (fscanf(file, "%lf", &m[i]) != 1 || !isfinite(m[i]))
            fail("%s: a matrix file starts with nine numbers", path);
    fclose(file);
    star.a = scale(1.0 / wavelength, vec(m[0], m[3], m[6]));
    star.b = scale(1.0 / wavelength, vec(m[1], m[4], m[7]));
    star.c = scale(1.0 / wavelength, vec(m[2], m[5], m[8]));
    if (!(fabs(triple(star)) > 1e-30)) fail("%s: the matrix is singular", path);
    return star;
}

/* A random orientation is drawn like a mosaic domain with a "spread" of 90 taken as radians, and reported as
 * the three angles about x, y and z that give the same rotation. */
static void draw_misset(double *misset, double seed) {
    Random random;
    Mat m;
    random_seed(&random, seed);
    m = random_rotation(&random, 90.0);
    misset[0] = atan2(m.row[2].y, m.row[2].z);
    misset[1] = -asin(clamp_cosine(m.row[2].x));
    misset[2] = atan2(m.row[1].x, m.row[0].x);
}

static Vec with_length(Vec v, double size) { return scale(size, unit(v)); }

static void orient(Crystal *c, const Options *o, double wavelength) {
    double volume = 0.0;
    int from_cell = o->mat_file == NULL;
    for (int i = 0; i < 3; i++) c->misset[i] = o->misset[i] * RADIANS;
    if (o->misset_random) draw_misset(c->misset, or_default(o->misset_seed, o->seed));
    c->star = from_cell ? stars_from_cell(o->cell, o->exact_cell, &volume) : stars_from_matrix(o->mat_file, wavelength);
    c->star = turn_basis(xyz_rotation(c->misset[0], c->misset[1], c->misset[2]), c->star);
    c->direct = dual(c->star, 1.0 / triple(c->star));
    if (!from_cell) return;
    c->direct.a = with_length(c->direct.a, o->cell[0]);
    c->direct.b = with_length(c->direct.b, o->cell[1]);
    c->direct.c = with_length(c->direct.c, o->cell[2]);
    /* The original rebuilds the stars with the volume of the cell it was asked for, not of the one it has. */
    c->star = dual(c->direct, 1.0 / (o->exact_cell ? triple(c->direct) : volume));
}

/* Cells per edge, from counts or from a size in mm; the beam lights no more than its own width and height. */
static void set_size(Crystal *c, const Options *o, double beamsize) {
    const double edges[3] = {c->cell[0], c->cell[1], c->cell[2]};
    for (int i = 0; i < 3; i++) {
        double size = o->sample[i], n = or_default(o->n_cells[i], 1.0);
        if (given(size)) {
            if (i > 0 && size > beamsize) {
                warn("the sample is clipped to the beam: %g instead of %g mm", beamsize, size);
                size = beamsize;
            }
            n = ceil(size * 1e7 / edges[i]);
        }
        c->n[i] = n < 1.0 ? 1.0 : n;
        c->n_is_even[i] = fmod(c->n[i], 2.0) == 0.0;
    }
}

void crystal_build(Crystal *c, const Options *o, const Beam *b) {
    if (o->mat_file == NULL && !given(o->cell[0])) fail("a crystal needs -cell or -mat");
    if (o->mat_file != NULL && given(o->cell[0])) warn("-mat and -cell were both given: the matrix is used");
    orient(c, o, b->wavelength);
    c->cell[0] = length(c->direct.a);
    c->cell[1] = length(c->direct.b);
    c->cell[2] = length(c->direct.c);
    c->cell[3] = angle_between(c->direct.b, c->direct.c);
    c->cell[4] = angle_between(c->direct.c, c->direct.a);
    c->cell[5] = angle_between(c->direct.a, c->direct.b);
    set_size(c, o, b->beamsize);
    c->shape = o->shape;
    c->fudge = o->fudge;
    c->d_min = o->d_min;
}
