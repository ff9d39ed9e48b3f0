/* Park and Miller's minimal generator with a Bays-Durham shuffle. Deviates are float32 and parts of the
 * rotation are float32 on purpose: the mosaic domains of the original are only reproduced that way. */
#include "nanobragg.h"

#include <math.h>
#include <stdlib.h>

#define MODULUS 2147483647
#define MULTIPLIER 16807
#define SCHRAGE_Q 127773
#define SCHRAGE_R 2836
#define TABLE 32

/* Schrage's split keeps the product inside 32 bits. */
static void advance(Random *r) {
    int32_t high = r->state / SCHRAGE_Q;
    r->state = MULTIPLIER * (r->state - high * SCHRAGE_Q) - SCHRAGE_R * high;
    if (r->state < 0) r->state += MODULUS;
}

void random_seed(Random *r, double seed) {
    double size = fmod(fabs(seed), (double)MODULUS);
    r->state = size >= 1.0 ? (int32_t)size : 1;
    for (int i = 0; i < 8; i++) advance(r);
    for (int i = TABLE - 1; i >= 0; i--) {
        advance(r);
        r->shuffle[i] = r->state;
    }
    r->last = r->shuffle[0];
}

float random_uniform(Random *r) {
    const float unit_step = (float)(1.0 / MODULUS);
    const float below_one = (float)(1.0 - 1.2e-7);
    int slot = r->last / (1 + (MODULUS - 1) / TABLE);
    float deviate;
    advance(r);
    r->last = r->shuffle[slot];
    r->shuffle[slot] = r->state;
    deviate = unit_step * (float)r->last;
    return deviate > below_one ? below_one : deviate;
}

/* A rotation axis uniform on the sphere, and an angle within the spread. */
Mat random_rotation(Random *r, double spread) {
    double r1 = 2.0 * (double)random_uniform(r) - 1.0;
    double r2 = 2.0 * (double)random_uniform(r) - 1.0;
    double r3 = 2.0 * (double)random_uniform(r) - 1.0;
    double equator = sqrt(1.0 - r2 * r2);
    float root = powf((float)(1.0 - r3 * r3), (float)(1.0 / 3.0));
    float angle = (float)spread * root;
    return axis_rotation(vec(equator * sin(PI * r1), equator * cos(PI * r1), r2), (double)angle);
}

/* Multiplication of uniforms: exact, and its cost is the mean. */
static double poisson_small(Random *r, double mean) {
    double limit = exp(-mean), product = 1.0;
    for (double count = 0.0;; count += 1.0) {
        product *= 1.0 - (double)random_uniform(r); /* in (0, 1] */
        if (product <= limit) return count;
    }
}

/* Hoermann's transformed rejection (PTRS): exact for mean >= 10 at a bounded cost. */
static double poisson_large(Random *r, double mean) {
    double b = 0.931 + 2.53 * sqrt(mean), a = -0.059 + 0.02483 * b;
    double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), v_r = 0.9277 - 3.6224 / (b - 2.0);
    for (;;) {
        double u = (double)random_uniform(r) - 0.5, v = 1.0 - (double)random_uniform(r);
        double us = 0.5 - fabs(u), k;
        if (us <= 0.0) continue;
        k = floor((2.0 * a / us + b) * u + mean + 0.43);
        if (us >= 0.07 && v <= v_r) return k;
        if (k < 0.0 || (us < 0.013 && v > us)) continue;
        if (log(v) + log(inverse_alpha) - log(a / (us * us) + b) <= k * log(mean) - mean - lgamma(k + 1.0))
            return k;
    }
}

double random_poisson(Random *r, double mean) {
    if (!(mean > 0.0)) return 0.0;
    if (mean > 1e9) return floor(mean + 0.5); /* far beyond any detector's overload */
    return mean < 12.0 ? poisson_small(r, mean) : poisson_large(r, mean);
}
