/* Polynomials that a compiler can vectorize, in REAL (float or double).
 *
 * Coefficients: minimax in relative error (Remez exchange at 40 digits) over the interval stated; the worst error is
 * below 2e-16 for double and below 1e-8 for float, so that rounding and not the fit limits either.
 */
#ifndef NBTORCH_VECTOR_MATH_H
#define NBTORCH_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef REAL
#define REAL double
#define REAL_IS_DOUBLE 1
#endif
#define R(x) ((REAL)(x))

#if REAL_IS_DOUBLE
#define REAL_SQRT(x) sqrt(x)
#else
#define REAL_SQRT(x) sqrtf(x)
#endif

#if defined(__SSE4_1__) || !defined(__x86_64__)
#define NEAREST_INTEGER(x) rint(x)
#define NEAREST_REFLECTION(h) ceil((h) - 0.5) /* nanoBragg: ties go down */
#else
/* SSE2 has no rounding instruction: adding 1.5·2^52 leaves the nearest integer, ties to even, for |x| < 2^51. */
static inline double round_even(double x) { return (x + 6755399441055744.0) - 6755399441055744.0; }
#define NEAREST_INTEGER(x) round_even(x)
static inline double round_ties_down(double h) {
    double n = round_even(h);
    return h - n == -0.5 ? n - 1.0 : n;
}
#define NEAREST_REFLECTION(h) round_ties_down(h)
#endif

#if REAL_IS_DOUBLE
#define NEAREST_REAL(x) NEAREST_INTEGER(x)
#elif defined(__SSE4_1__) || !defined(__x86_64__)
#define NEAREST_REAL(x) rintf(x)
#else
#define NEAREST_REAL(x) (((x) + 12582912.0f) - 12582912.0f)
#endif

/* sin(πx)/x as a function of u = x², 0 ≤ u ≤ ¼. */
static inline REAL sinpi_over(REAL u) {
#if REAL_IS_DOUBLE
    return 3.1415926535897928 +
           u * (-5.1677127800497526 +
                u * (2.5501640398597771 +
                     u * (-0.59926452877572537 +
                          u * (0.082145878256700915 +
                               u * (-0.0073703610724298296 +
                                    u * (0.00046597761891854791 + u * -2.1122954884553354e-5))))));
#else
    return 3.1415926368961182f +
           u * (-5.1677096848420054f +
                u * (2.5500697269350597f + u * (-0.59824212930563712f + u * 0.077560391389719789f)));
#endif
}

/* Twice the derivative of sinpi_over with respect to u, so that d/dx sin(πx)/x = x·sinpi_slope(x²). */
static inline REAL sinpi_slope(REAL u) {
#if REAL_IS_DOUBLE
    return -10.33542556009994 +
           u * (10.200656159509276 +
                u * (-3.5955871759160888 +
                     u * (0.65716709261659102 +
                          u * (-0.07370430523505728 +
                               u * (0.0055955980308807134 +
                                    u * (-0.00030664780742240079 + u * 1.2313428179142392e-5))))));
#else
    return -10.335425548477403f +
           u * (10.200653932628443f +
                u * (-3.5955178300004313f + u * (0.65640372774666624f + u * -0.070243212030387411f)));
#endif
}

/* 3(sin y/y − cos y)/y² for y = π√u, 0 ≤ u ≤ 1: the transform of a ball within its first lobe. */
static inline REAL ball_series(REAL u) {
#if REAL_IS_DOUBLE
    return 1.0 +
           u * (-0.98696044010893579 +
                u * (0.34788961083572049 +
                     u * (-0.063583941373991643 +
                          u * (0.0071312312227215225 +
                               u * (-0.00054140331465171403 +
                                    u * (2.9685755197517783e-5 +
                                         u * (-1.2310303893917537e-6 +
                                              u * (3.9959446385762495e-8 +
                                                   u * (-1.0383324412900455e-9 + u * 2.0228378953032494e-11)))))))));
#else
    return 0.99999999976912493f +
           u * (-0.98696042050662275f +
                u * (0.34788932872770899f +
                     u * (-0.063582379947889149f +
                          u * (0.0071270368044259009f + u * (-0.00053552048997080631f + u * 2.5506640413809984e-5f)))));
#endif
}

/* The derivative of ball_series with respect to u. */
static inline REAL ball_series_slope(REAL u) {
#if REAL_IS_DOUBLE
    return -0.98696044010893585 +
           u * (0.69577922167144389 +
                u * (-0.19075182412201908 +
                     u * (0.028524924891191322 +
                          u * (-0.0027070165743976053 +
                               u * (0.00017811453366262739 +
                                    u * (-8.6172159418031223e-6 +
                                         u * (3.1967800514924489e-7 +
                                              u * (-9.3459709905908336e-9 + u * 2.0244236886660614e-10))))))));
#else
    return -0.98696044005850498f +
           u * (0.6957792171801294f +
                u * (-0.19075175711822497f +
                     u * (0.028524543439284381f +
                          u * (-0.0027059684934405068f +
                               u * (0.00017661765860141414f + u * -7.5390216622276982e-6f)))));
#endif
}

/* (e^x − 1)/x for |x| ≤ ½ ln 2. */
static inline REAL expm1_over(REAL x) {
#if REAL_IS_DOUBLE
    return 1.0 +
           x * (0.50000000000000055 +
                x * (0.16666666666666563 +
                     x * (0.041666666666573902 +
                          x * (0.0083333333333979285 +
                               x * (0.001388888893226069 +
                                    x * (0.00019841269707278512 +
                                         x * (2.4801504600119056e-5 +
                                              x * (2.7557414946415473e-6 +
                                                   x * (2.7626263571282329e-7 + x * 2.5052050253868473e-8)))))))));
#else
    return 1.0000000106282188f +
           x * (0.49999998124962572f +
                x * (0.16666506219048536f +
                     x * (0.041667136074201682f + x * (0.0083690686208011887f + x * 0.0013888883010857953f))));
#endif
}

/* 2^n for an integer-valued n within the normal range: n + bias is read from the low bits of a biased float. */
static inline REAL power_of_two(REAL n) {
#if REAL_IS_DOUBLE
    double biased = n + (6755399441055744.0 + 1023.0), result;
    uint64_t bits;
    memcpy(&bits, &biased, sizeof bits);
    bits <<= 52;
    memcpy(&result, &bits, sizeof bits);
#else
    float biased = n + (12582912.0f + 127.0f), result;
    uint32_t bits;
    memcpy(&bits, &biased, sizeof bits);
    bits <<= 23;
    memcpy(&result, &bits, sizeof bits);
#endif
    return result;
}

#if REAL_IS_DOUBLE
#define SMALLEST_EXPONENT (-700.0)
#define LN2_HIGH 6.93147180369123816490e-01 /* 32 bits, so that n·LN2_HIGH is exact */
#define LN2_LOW 1.90821492927058770002e-10
#else
#define SMALLEST_EXPONENT (-86.0f)
#define LN2_HIGH 0.693145751953125f /* 15 bits */
#define LN2_LOW 1.42860682030941723212e-6f
#endif

/* e^x − 1 for x ≤ 0; *power is 2^n and *rest e^r − 1 of e^x = 2^n·e^r, which give e^x without cancellation. */
static inline REAL split_exponential(REAL x, REAL *power) {
    REAL n = NEAREST_REAL(x * R(1.44269504088896340736));
    REAL r = (x - n * LN2_HIGH) - n * LN2_LOW;
    *power = power_of_two(n);
    return r * expm1_over(r);
}

/* e^x for x ≤ 0; 0 where the result would leave the normal range. */
static inline REAL exponential(REAL x) {
    REAL power, clamped = x > SMALLEST_EXPONENT ? x : SMALLEST_EXPONENT;
    REAL rest = split_exponential(clamped, &power);
    return x > SMALLEST_EXPONENT ? power + power * rest : R(0);
}

/* e^x − 1 for x ≤ 0, every digit kept near 0. */
static inline REAL exponential_minus_one(REAL x) {
    REAL power, clamped = x > SMALLEST_EXPONENT ? x : SMALLEST_EXPONENT;
    REAL rest = split_exponential(clamped, &power);
    return (power - R(1)) + power * rest;
}

#endif
