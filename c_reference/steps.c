/* Step rules: the user states any of a count, a range and a step; the rest follows. A count that is not
 * positive counts as not given, as in the original. */
#include "nanobragg.h"

#include <math.h>

#define MAX_STEPS 1e8

static Steps finish(double n, double range, double step) {
    Steps out = {1, 0.0, 0.0};
    if (n > MAX_STEPS) fail("a step rule asks for %.3g points; at most %.0e are allowed", n, MAX_STEPS);
    if (n >= 1.0 && range > 0.0 && step > 0.0) {
        out.n = (int)n;
        out.range = range;
        out.step = step;
    }
    return out;
}

static Steps without_count(double range, double step) {
    if (!given(range) && !given(step)) return finish(1, 0, 0);
    if (!given(range)) return finish(2, step, step);
    if (!given(step)) return finish(2, range, range);
    return finish(step > 0.0 ? ceil(range / step) : 0.0, range, step);
}

/* Divergence (radians) and dispersion (a fraction). A count alone spans 1 radian. */
Steps beam_steps(double count, double range, double step) {
    if (!(count >= 1.0)) return without_count(range, step);
    if (!given(range) && !given(step)) return finish(count, 1.0, 1.0 / count);
    if (!given(range)) return finish(2, step, step);
    if (given(step)) return finish(count, range, step);
    if (count < 2.0) count = 2.0;
    return finish(count, range, range / (count - 1.0));
}

/* The spindle's steps are left edges of an exposure: the count, 2 if none is given, divides the range by n. A
 * count alone spans one degree. */
Steps spindle_steps(double count, double range, double step) {
    if (count >= 1.0 && !given(range) && !given(step)) range = 1.0 * RADIANS;
    if (given(range) && !given(step)) {
        if (!(count >= 1.0)) count = 2.0;
        return finish(count, range, range / count);
    }
    return beam_steps(count, range, step);
}
