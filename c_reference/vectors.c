/* Vectors and rotations. Every rotation is right-handed about its axis. */
#include "nanobragg.h"

#include <math.h>

Vec vec(double x, double y, double z) {
    Vec v = {x, y, z};
    return v;
}

Vec vec_from(const double *xyz) { return vec(xyz[0], xyz[1], xyz[2]); }

Vec add(Vec u, Vec v) { return vec(u.x + v.x, u.y + v.y, u.z + v.z); }

Vec scale(double k, Vec v) { return vec(k * v.x, k * v.y, k * v.z); }

Vec cross(Vec u, Vec v) { return vec(u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x); }

double dot(Vec u, Vec v) { return u.x * v.x + u.y * v.y + u.z * v.z; }

double length(Vec v) { return sqrt(dot(v, v)); }

/* A null vector stays null: a polarization vector along the beam has no B axis, and K then has no effect. */
Vec unit(Vec v) {
    double size = length(v);
    return size > 0.0 ? scale(1.0 / size, v) : v;
}

/* Rodrigues' formula, as a matrix. The axis need not be normalized. */
Mat axis_rotation(Vec axis, double angle) {
    Vec n = unit(axis);
    double c = cos(angle), s = sin(angle), t = 1.0 - c;
    Mat m = {{{t * n.x * n.x + c, t * n.x * n.y - s * n.z, t * n.x * n.z + s * n.y},
              {t * n.y * n.x + s * n.z, t * n.y * n.y + c, t * n.y * n.z - s * n.x},
              {t * n.z * n.x - s * n.y, t * n.z * n.y + s * n.x, t * n.z * n.z + c}}};
    return m;
}

Mat xyz_rotation(double rx, double ry, double rz) {
    Mat x = axis_rotation(vec(1, 0, 0), rx);
    Mat y = axis_rotation(vec(0, 1, 0), ry);
    Mat z = axis_rotation(vec(0, 0, 1), rz);
    return matmul(z, matmul(y, x));
}

Mat matmul(Mat m, Mat n) {
    Mat out;
    for (int i = 0; i < 3; i++) {
        Vec r = m.row[i];
        out.row[i] = add(add(scale(r.x, n.row[0]), scale(r.y, n.row[1])), scale(r.z, n.row[2]));
    }
    return out;
}

Vec turn(Mat m, Vec v) { return vec(dot(m.row[0], v), dot(m.row[1], v), dot(m.row[2], v)); }

Basis turn_basis(Mat m, Basis v) {
    Basis out = {turn(m, v.a), turn(m, v.b), turn(m, v.c)};
    return out;
}
