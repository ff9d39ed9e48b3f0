/* Run-time choice of the instruction set. Compiled once, for any machine of the architecture. */
#include <string.h>

#include "lattice.h"
#include "pixel_sum.h"
#include "profile.h"
#include "rays.h"

#define EXPORT __attribute__((visibility("default")))

#define DECLARE(set)                                                    \
    int nbt_lattice_value_double_##set(const struct lattice_args *);    \
    int nbt_lattice_value_float_##set(const struct lattice_args *);     \
    int nbt_lattice_gradient_double_##set(const struct lattice_args *); \
    int nbt_lattice_gradient_float_##set(const struct lattice_args *);  \
    int nbt_lattice_tangents_double_##set(const struct lattice_args *); \
    int nbt_lattice_tangents_float_##set(const struct lattice_args *);  \
    int nbt_rays_value_##set(const struct ray_args *);                  \
    int nbt_rays_gradient_##set(const struct ray_args *);               \
    int nbt_rays_tangents_##set(const struct ray_args *);               \
    int nbt_pixel_sum_value_double_##set(const struct pixel_sum_args *);    \
    int nbt_pixel_sum_value_float_##set(const struct pixel_sum_args *);     \
    int nbt_pixel_sum_gradient_double_##set(const struct pixel_sum_args *); \
    int nbt_pixel_sum_gradient_float_##set(const struct pixel_sum_args *);  \
    int nbt_profile_value_##set(const struct profile_args *);               \
    int nbt_profile_gradient_##set(const struct profile_args *);            \
    int nbt_profile_tangents_##set(const struct profile_args *);

#define FUNCTIONS(set)                                                                                      \
    {{{nbt_lattice_value_double_##set, nbt_lattice_value_float_##set},                                      \
      {nbt_lattice_gradient_double_##set, nbt_lattice_gradient_float_##set},                                \
      {nbt_lattice_tangents_double_##set, nbt_lattice_tangents_float_##set}},                               \
     {nbt_rays_value_##set, nbt_rays_gradient_##set, nbt_rays_tangents_##set},                              \
     {{nbt_pixel_sum_value_double_##set, nbt_pixel_sum_value_float_##set},                                  \
      {nbt_pixel_sum_gradient_double_##set, nbt_pixel_sum_gradient_float_##set}},                           \
     {nbt_profile_value_##set, nbt_profile_gradient_##set, nbt_profile_tangents_##set}}

struct functions {
    int (*lattice[3][2])(const struct lattice_args *); /* [value, gradient, tangents][double, float] */
    int (*rays[3])(const struct ray_args *);
    int (*pixel_sum[2][2])(const struct pixel_sum_args *); /* [value, gradient][double, float] */
    int (*profile[3])(const struct profile_args *);        /* [value, gradient, tangents] */
};

struct instruction_set {
    const char *name;
    struct functions functions;
};

DECLARE(baseline)
#ifdef WITH_AVX2
DECLARE(avx2)
#endif
#ifdef WITH_AVX512
DECLARE(avx512)
#endif

/* From the plainest up: the last one that the machine can execute is the default. */
static const struct instruction_set SETS[] = {
    {"baseline", FUNCTIONS(baseline)},
#ifdef WITH_AVX2
    {"avx2", FUNCTIONS(avx2)},
#endif
#ifdef WITH_AVX512
    {"avx512", FUNCTIONS(avx512)},
#endif
};
#define N_SETS ((int)(sizeof SETS / sizeof *SETS))

static int can_execute(const char *name) {
#if defined(__x86_64__)
    if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("fma");
#endif
    return !strcmp(name, "baseline");
}

static int chosen = -1;

static const struct functions *functions(void) {
    if (chosen < 0)
        for (int i = 0; i < N_SETS; i++)
            if (can_execute(SETS[i].name)) chosen = i;
    return &SETS[chosen].functions;
}

/* Name of the i-th compiled set, or NULL past the last. */
EXPORT const char *nbt_instruction_set(int i) { return i >= 0 && i < N_SETS ? SETS[i].name : 0; }

/* Whether this machine can execute a compiled set. */
EXPORT int nbt_can_execute(const char *name) {
    for (int i = 0; i < N_SETS; i++)
        if (!strcmp(SETS[i].name, name)) return can_execute(name);
    return 0;
}

/* Name of the set in use. */
EXPORT const char *nbt_current_set(void) {
    functions();
    return SETS[chosen].name;
}

/* Use a set by name; returns 0 when it is compiled and can be executed. */
EXPORT int nbt_use_set(const char *name) {
    for (int i = 0; i < N_SETS; i++)
        if (!strcmp(SETS[i].name, name) && can_execute(name)) {
            chosen = i;
            return 0;
        }
    return 1;
}

/* kind: 0 value, 1 gradient, 2 tangents. Returns 1 when memory is short. */
EXPORT int nbt_lattice(const struct lattice_args *args, int kind, int single) {
    return functions()->lattice[kind][single != 0](args);
}

EXPORT int nbt_rays(const struct ray_args *args, int kind) { return functions()->rays[kind](args); }

/* kind: 0 value, 1 gradient. Returns 1 when memory is short, 2 for a panel that is not there. */
EXPORT int nbt_pixel_sum(const struct pixel_sum_args *args, int kind, int single) {
    return functions()->pixel_sum[kind][single != 0](args);
}

/* kind: 0 value, 1 gradient, 2 tangents. Returns as nbt_pixel_sum. */
EXPORT int nbt_profile(const struct profile_args *args, int kind) { return functions()->profile[kind](args); }

/* So that a library of another version is refused instead of misread. */
EXPORT int nbt_lattice_args_size(void) { return (int)sizeof(struct lattice_args); }
EXPORT int nbt_ray_args_size(void) { return (int)sizeof(struct ray_args); }
EXPORT int nbt_pixel_sum_args_size(void) { return (int)sizeof(struct pixel_sum_args); }
EXPORT int nbt_profile_args_size(void) { return (int)sizeof(struct profile_args); }
