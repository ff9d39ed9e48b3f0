/* Where the detector stands: beam centres, the pivot, the rotations, and what follows from them. */
#include "nanobragg.h"

#include <math.h>

/* The point of closest approach. A given Xclose or Yclose does not move it: it only feeds Xbeam and Ybeam. */
static void set_close_point(Detector *d, const Options *o) {
    d->Fclose = given(o->org[0]) ? (o->org[0] - 0.5) * d->pixel : d->detsize_fast / 2.0;
    d->Sclose = given(o->org[1]) ? (o->org[1] - 0.5) * d->pixel : d->detsize_slow / 2.0;
}

/* X and Y of the beam centre mean something else in every convention; fast and slow do not. */
static void set_beam_center(Detector *d, const Options *o) {
    int convention = o->vector_given ? CUSTOM : o->convention;
    double half = d->pixel / 2.0;
    double x = or_default(o->close_center[0], d->Fclose), y = or_default(o->close_center[1], d->Sclose);
    if (convention == MOSFLM || convention == DENZO) {
        x = d->detsize_slow / 2.0 + half;
        y = d->detsize_fast / 2.0 + half;
    }
    if (convention == ADXV) {
        x = d->detsize_fast / 2.0 + half;
        y = d->detsize_slow / 2.0 - half;
    }
    d->Xbeam = x = or_default(o->beam_center[0], x);
    d->Ybeam = y = or_default(o->beam_center[1], y);
    d->Fbeam = convention == MOSFLM ? y + half : convention == DENZO ? y : x;
    d->Sbeam = convention == MOSFLM ? x + half : convention == DENZO ? x : y;
    if (convention == ADXV) d->Sbeam = d->detsize_slow - y;
    if (convention == CUSTOM) {
        d->Fclose = x;
        d->Sclose = y;
    }
}

static void warn_of_conflict(const Options *o) {
    if (given(o->beam_center[0])) warn("-pix0_vector places the detector: -Xbeam is not used");
    if (given(o->beam_center[1])) warn("-pix0_vector places the detector: -Ybeam is not used");
    if (given(o->org[0]) || given(o->org[1])) warn("-pix0_vector places the detector: -ORGX and -ORGY are not used");
    if (given(o->close_center[0]) || given(o->close_center[1]))
        warn("-pix0_vector places the detector: -Xclose and -Yclose are not used");
    if (given(o->distance)) warn("-pix0_vector places the detector: -distance is not used");
    if (given(o->close_distance)) warn("-pix0_vector places the detector: -close_distance is not used");
}

/* The detector's numbers as they stand, whatever placed it. */
static void derive(Detector *d, double ratio) {
    Vec in_plane;
    d->Fclose = -dot(d->pix0, d->fast);
    d->Sclose = -dot(d->pix0, d->slow);
    d->close_distance = dot(d->pix0, d->normal);
    d->distance = d->close_distance / ratio;
    in_plane = add(scale(d->distance, d->beam), scale(-1.0, d->pix0));
    d->Fbeam = dot(d->fast, in_plane);
    d->Sbeam = dot(d->slow, in_plane);
    d->orgx = d->Fclose / d->pixel + 0.5;
    d->orgy = d->Sclose / d->pixel + 0.5;
}

void detector_place(Detector *d, const Options *o) {
    Mat tilt = xyz_rotation(o->rot[0] * RADIANS, o->rot[1] * RADIANS, o->rot[2] * RADIANS);
    Mat arm = axis_rotation(d->twotheta_axis, o->twotheta * RADIANS);
    Mat both = matmul(arm, tilt);
    double ratio = dot(d->beam, turn(tilt, d->normal));
    int honour_pix0 = given(o->pix0[0]) && !o->compat;

    if (!(fabs(ratio) > 1e-12)) fail("the detector is parallel to the beam: nothing fixes its distance");
    set_close_point(d, o);
    set_beam_center(d, o);
    d->close_distance = or_default(o->close_distance, fabs(ratio * or_default(o->distance, 100.0)));
    d->distance = d->close_distance / ratio;

    if (d->pivot == PIVOT_SAMPLE)
        d->pix0 = turn(both, add(add(scale(-d->Fclose, d->fast), scale(-d->Sclose, d->slow)),
                                 scale(d->close_distance, d->normal)));
    d->fast = turn(both, d->fast);
    d->slow = turn(both, d->slow);
    d->normal = turn(both, d->normal);
    if (d->pivot == PIVOT_BEAM)
        d->pix0 = add(add(scale(-d->Fbeam, d->fast), scale(-d->Sbeam, d->slow)), scale(d->distance, d->beam));
    if (honour_pix0) {
        warn_of_conflict(o);
        d->pix0 = turn(both, vec_from(o->pix0));
    }
    if (given(o->pix0[0]) && o->compat) warn("-compat nanobragg: -pix0_vector only selects the custom convention");
    derive(d, ratio);
}
