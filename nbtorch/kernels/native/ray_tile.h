/* A tile: LANES samples of the detector, where they lie, and the factors that do not depend on the source. */
#ifndef NBTORCH_RAY_TILE_H
#define NBTORCH_RAY_TILE_H

#include "rays.h"

#define LANES 64
#define PANEL_VALUES 15 /* fast, slow, normal, origin; pixel size (fast, slow); absorption */

/* Of the panels, one value a lane: [0, 12) frame rows, 12 and 13 pixel size, 14 absorption. */
struct panel_lanes {
    int64_t uniform; /* the panel that fills every lane, −1 for none */
    double value[PANEL_VALUES][LANES];
};

struct ray_tile {
    int lanes; /* how many of LANES are real; the rest repeat the last one */
    int64_t start, panel[LANES];
    struct panel_lanes of_panel;
    double fast[LANES], slow[LANES], depth[LANES], layer[LANES];
    double index[LANES]; /* of a grid: which layer */
    int laid_out;        /* of a grid: whether the three below are set; 0 to begin with */
    double sub_slow[LANES], sub_fast[LANES], sub_index[LANES]; /* where the samples of a pixel lie in it */
    double diffracted[3][LANES]; /* unit */
    double inverse_r[LANES];                     /* 1/airpath, 1/mm */
    double close[LANES], omega[LANES];           /* close distance, mm; solid angle */
    int has_sensor;                              /* whether any lane's panel absorbs; else capture is 1 and what */
    double path[LANES], inverse_parallax[LANES]; /* follows is not set. µ/parallax, 1/mm */
    double capture[LANES], behind[LANES];        /* absorbed fraction; what is left behind the layer */
};

/* What flows back through a tile. */
struct ray_grads {
    double diffracted[3][LANES]; /* dL/d(diffracted) */
    double product[LANES];       /* dL/d(capture·omega) */
    double panel[PANEL_VALUES][LANES];
};

/* For the sums that make their rays tile by tile (pixel_sum.c): compiled with rays.c, once per instruction SET. */
#define RAY_JOIN2(a, b) a##_##b
#define RAY_JOIN(a, b) RAY_JOIN2(a, b)
#define ray_tile_load RAY_JOIN(nbt_ray_tile_load, SET)
#define ray_tile_weight RAY_JOIN(nbt_ray_tile_weight, SET)
#define ray_tile_source RAY_JOIN(nbt_ray_tile_source, SET)
#define ray_tile_finish RAY_JOIN(nbt_ray_tile_finish, SET)
#define ray_sums_size RAY_JOIN(nbt_ray_sums_size, SET)
#define ray_sums_merge RAY_JOIN(nbt_ray_sums_merge, SET)
#define ray_bad_panel RAY_JOIN(nbt_ray_bad_panel, SET)

/* Fill `t` with the samples from `start`; `end` is the first that is not the caller's. */
void ray_tile_load(const struct ray_args *a, struct ray_tile *t, int64_t start, int64_t end);
/* capture·solid angle·polarization of source s, every lane. */
void ray_tile_weight(const struct ray_args *a, const struct ray_tile *t, int64_t s, double *weight);
/* From dL/d(weight) of source s, 0 in lanes past the end: to its own vectors, and into `g`. */
void ray_tile_source(const struct ray_args *a, const struct ray_tile *t, int64_t s, const double *grad, double *sums,
                     struct ray_grads *g);
/* From `g`, complete, to panels and samples. */
void ray_tile_finish(const struct ray_args *a, const struct ray_tile *t, double *sums, struct ray_grads *g);
/* Doubles of a chunk's private sums; adding them to the results; whether a sample names a panel that is not there. */
int64_t ray_sums_size(const struct ray_args *a);
void ray_sums_merge(const struct ray_args *a, double *sums);
int ray_bad_panel(const struct ray_args *a);

#endif
