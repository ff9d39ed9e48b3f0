/* The closed form: Σ over the samples and sources of a pixel of weight·|F|²·average of each reflection in reach.
 *
 * A block of samples is searched for light, one source and piece of the spindle range at a time; what is found is
 * computed several reflections at once. Compiled once per instruction SET, in double. docs/closed_form.md.
 */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#include "profile.h"

#include <stdlib.h>

#include "profile_lit.h"

enum mode { VALUE, GRADIENT, TANGENT };

/* What is the same for every chunk. */
struct whole {
    const struct profile_args *args;
    struct ray_args rays; /* the grid, for load_block */
    struct choices choices;
    enum mode mode;
    int64_t per_pixel, offset[PROFILE_FIELDS + 1]; /* samples of a pixel; places in the sums */
};

/* What a thread works with; `sums` are of one chunk. */
struct work {
    struct block block;
    struct lit lit;
    struct which which;
    struct numbers numbers, gradient;
    struct spreads spreads;
    double *sums, *tangents; /* tangents: [T, N_NUMBERS] of `which` */
};

static int64_t table_size(const struct profile_args *a) { return a->in.table ? a->count[0] * a->count[1] * a->count[2] : 0; }

/* The place of a reflection in the table; −1 where it is not there. */
static int64_t in_table(const struct profile_args *a, const double *reflection) {
    int64_t position = 0;
    if (!a->in.table) return -1;
    for (int axis = 0; axis < 3; axis++) {
        double from_first = reflection[axis] - (double)a->first[axis];
        if (!(from_first >= 0.0 && from_first < (double)a->count[axis])) return -1;
        position = position * a->count[axis] + (int64_t)from_first;
    }
    return position;
}

/* The numbers of another panel, source or piece, when they change. */
static void use(const struct whole *whole, struct work *w, struct which which) {
    const struct profile_args *a = whole->args;
    double number[N_NUMBERS];
    if (!memcmp(&which, &w->which, sizeof which)) return;
    w->which = which;
    load_numbers(a, &a->in, which, 0, number);
    for (int i = 0; i < N_NUMBERS; i++) ((V *)&w->numbers)[i] = all(number[i]);
    find_spreads(&w->numbers, &w->spreads);
    for (int64_t t = 0; t < a->n_tangents; t++) load_numbers(a, &a->dot, which, t, w->tangents + t * N_NUMBERS);
}

/* Terms of one panel that are computed together, the last of them repeated in lanes that are left over. */
struct batch {
    int n;
    int64_t pixel[WIDTH], position[WIDTH]; /* position: in the table */
    V amplitude;
    struct ray ray;
    struct term term;
};

static void load_batch(const struct whole *whole, const struct work *w, int first, int n, struct batch *b) {
    b->n = n;
    for (int i = 0; i < WIDTH; i++) {
        int from = first + (i < n ? i : n - 1), sample = w->lit.sample[from];
        double reflection[3];
        EACH(j) b->term.reflection[j][i] = reflection[j] = w->lit.reflection[j][from];
        b->pixel[i] = (w->block.start + sample) / whole->per_pixel;
        b->position[i] = in_table(whole->args, reflection);
        b->amplitude[i] = b->position[i] >= 0 ? whole->args->in.table[b->position[i]] : whole->args->default_F;
        b->ray.fast[i] = w->block.fast[sample], b->ray.slow[i] = w->block.slow[sample];
        b->ray.index[i] = w->block.index[sample];
    }
}

/* dL/d(number) for dL/d(value) = `grad` of each lane, added up in w->gradient; and dL/dF is returned. */
static V batch_back(const struct whole *whole, struct work *w, const struct batch *b, V grad) {
    const struct numbers *n = &w->numbers;
    struct numbers *to = &w->gradient;
    struct spreads of_spreads;
    struct place of_place;
    V3 of_direction, of_position;
    V squared = b->amplitude * b->amplitude, value = b->term.average.value, of_depth;
    V with_source = grad * n->source_weight, scaled = with_source * n->scale;
    memset(&of_spreads, 0, sizeof of_spreads);
    memset(&of_place, 0, sizeof of_place);
    term_back(&b->term, &w->spreads, &whole->choices, scaled * squared * b->ray.weight, &of_place, &of_spreads);
    spreads_back(n, &of_spreads, to);
    to->source_weight += grad * n->scale * squared * value * b->ray.weight;
    to->scale += with_source * squared * value * b->ray.weight;
    to->wavelength += of_place.wavelength;
    add(to->incident, all(1.0), of_place.incident), add(to->spindle, all(1.0), of_place.spindle);
    clear_vector(of_direction);
    V of_distance = weight_back(whole->args, n, &b->term.directions, &b->ray, scaled * squared * value, to, of_direction,
                                &of_depth);
    memcpy(of_position, of_place.position, sizeof of_position);
    unit_back(b->term.directions.diffracted, b->term.directions.distance, of_direction, of_distance, of_position);
    position_back(n, &b->ray, of_position, of_depth, to);
    return 2.0 * scaled * b->amplitude * value * b->ray.weight;
}

static void add_gradient(const struct whole *whole, struct work *w, const struct batch *b) {
    V grad = all(0.0);
    for (int i = 0; i < b->n; i++) grad[i] = whole->args->grad[b->pixel[i]];
    V of_amplitude = batch_back(whole, w, b, grad);
    double *table = whole->args->to.table ? w->sums + whole->offset[PROFILE_FIELDS] : 0;
    for (int i = 0; table && i < b->n; i++)
        if (b->position[i] >= 0) table[b->position[i]] += of_amplitude[i];
}

/* Every tangent is the gradient of the lane times the tangents of its numbers. */
static void add_tangents(const struct whole *whole, struct work *w, const struct batch *b) {
    const struct profile_args *a = whole->args;
    memset(&w->gradient, 0, sizeof w->gradient);
    V of_amplitude = batch_back(whole, w, b, all(1.0));
    const V *g = (const V *)&w->gradient;
    for (int64_t t = 0; t < a->n_tangents; t++) {
        const double *dot_number = w->tangents + t * N_NUMBERS;
        const double *table = a->dot.table ? a->dot.table + t * table_size(a) : 0;
        V sum = all(0.0);
        for (int j = 0; j < N_NUMBERS; j++) sum += dot_number[j] * g[j];
        for (int i = 0; i < b->n; i++) {
            double of_table = table && b->position[i] >= 0 ? of_amplitude[i] * table[b->position[i]] : 0.0;
            a->tangent[t * a->n_pixels + b->pixel[i]] += sum[i] + of_table;
        }
    }
}

static void compute(const struct whole *whole, struct work *w, int first, int n) {
    const struct profile_args *a = whole->args;
    struct batch b;
    load_batch(whole, w, first, n, &b);
    find_position(&w->numbers, &b.ray, b.term.at.position);
    memcpy(b.term.at.incident, w->numbers.incident, sizeof(V3));
    memcpy(b.term.at.spindle, w->numbers.spindle, sizeof(V3));
    b.term.at.wavelength = w->numbers.wavelength;
    find_term(&w->spreads, &whole->choices, whole->mode != VALUE, &b.term);
    find_weight(a, &w->numbers, &b.term.directions, &b.ray);
    if (whole->mode == GRADIENT) {
        add_gradient(whole, w, &b);
        return;
    }
    V value = w->numbers.source_weight * w->numbers.scale * b.amplitude * b.amplitude * b.ray.weight * b.term.average.value;
    for (int i = 0; i < n; i++) a->value[b.pixel[i]] += value[i];
    if (whole->mode == TANGENT) add_tangents(whole, w, &b);
}

/* All that is listed, in batches. */
static void compute_lit(const struct whole *whole, struct work *w) {
    if (whole->mode == GRADIENT) memset(&w->gradient, 0, sizeof w->gradient);
    for (int i = 0; i < w->lit.n; i += WIDTH) compute(whole, w, i, w->lit.n - i < WIDTH ? w->lit.n - i : WIDTH);
    if (whole->mode == GRADIENT && w->lit.n) add_numbers(&w->gradient, w->which, whole->offset, w->sums);
    w->lit.n = 0;
}

/* The reflections that reach a segment, and what they send to its samples. */
static void add_segment(const struct whole *whole, struct work *w, const struct seen *seen, int first) {
    const struct profile_args *a = whole->args;
    double n[3], from[3], to[3];
    index_range(a, seen, 2, n, &from[2], &to[2]);
    for (n[2] = from[2]; n[2] <= to[2]; n[2]++) {
        index_range(a, seen, 1, n, &from[1], &to[1]);
        for (n[1] = from[1]; n[1] <= to[1]; n[1]++) {
            index_range(a, seen, 0, n, &from[0], &to[0]);
            for (n[0] = from[0]; n[0] <= to[0]; n[0]++) {
                if (w->lit.n + LANES > MOST_LIT) compute_lit(whole, w);
                list_reflection(a, seen, n, first, &w->lit);
            }
        }
    }
}

static void run_chunk(const struct whole *whole, struct work *w, int64_t first, int64_t last) {
    const struct profile_args *a = whole->args;
    struct block *b = &w->block;
    struct seen seen;
    b->tile.of_panel.uniform = -1;
    b->tile.laid_out = 0;
    w->lit.n = 0;
    for (int64_t start = first; start < last; start += BLOCK) {
        load_block(&whole->rays, b, start, last);
        for (int64_t s = 0; s < a->n_sources; s++)
            for (int64_t k = 0; k < a->n_pieces; k++) {
                for (int i = 0; i < b->segments; i++) {
                    int64_t panel = b->panel[b->first[i]];
                    if (panel != w->which.index[0]) compute_lit(whole, w);
                    use(whole, w, (struct which){{panel, s, k, 0}});
                    see(a, b, &w->numbers, &w->spreads, &whole->choices, i, &seen);
                    add_segment(whole, w, &seen, b->first[i]);
                }
                compute_lit(whole, w);
            }
    }
}

static struct whole make_whole(const struct profile_args *a, enum mode mode) {
    const int64_t counts[4] = {a->n_panels, a->n_sources, a->n_pieces, 1};
    struct whole w = {.args = a, .mode = mode};
    w.choices = (struct choices){a->span, a->cut, (int)a->iterated, (int)a->divergence, (int)a->place};
    w.per_pixel = a->layers * a->oversample * a->oversample;
    w.rays = (struct ray_args){.n_samples = a->n_pixels * w.per_pixel, .n_sources = a->n_sources, .n_panels = a->n_panels,
                               .layers = a->layers, .oversample = a->oversample, .panel = a->panel, .slow = a->slow,
                               .fast = a->fast};
    w.rays.in.frame = a->in.frame, w.rays.in.pixel_size = a->in.pixel_size;
    w.rays.in.absorption = a->in.absorption, w.rays.in.layer_step = a->in.layer_step;
    for (int f = 0; f < PROFILE_FIELDS; f++) w.offset[f + 1] = w.offset[f] + FIELD[f].size * counts[FIELD[f].by];
    return w;
}

/* A chunk's sums to the results. */
static void merge(const struct whole *whole, const double *sums) {
    double *const *to = (double *const *)&whole->args->to;
    for (int f = 0; f < PROFILE_FIELDS; f++)
        for (int64_t i = 0; to[f] && i < whole->offset[f + 1] - whole->offset[f]; i++) to[f][i] += sums[whole->offset[f] + i];
    const double *table = sums + whole->offset[PROFILE_FIELDS];
    for (int64_t i = 0; whole->args->to.table && i < table_size(whole->args); i++) whole->args->to.table[i] += table[i];
}

/* Run every chunk, of whole pixels; their number does not depend on the threads. Returns 1 when memory is short, 2 when
 * a pixel names a panel that is not there, else 0. */
static int run(const struct profile_args *a, enum mode mode) {
    struct whole whole = make_whole(a, mode);
    for (int64_t i = 0; i < a->n_pixels; i++)
        if (a->panel[i] < 0 || a->panel[i] >= a->n_panels) return 2;
    int64_t size = whole.offset[PROFILE_FIELDS] + (a->to.table ? table_size(a) : 0), n = a->n_pixels;
    int64_t most = mode != GRADIENT ? 1024 : ((int64_t)32 << 20) / size < 64 ? ((int64_t)32 << 20) / size + 1 : 64;
    int64_t least = BLOCK * 8 / whole.per_pixel + 1, pixels = (n + most - 1) / most;
    if (pixels < least) pixels = least;
    int64_t chunks = (n + pixels - 1) / pixels;
    double *sums = mode == GRADIENT ? calloc((size_t)(chunks * size), sizeof *sums) : 0;
    int failed = mode == GRADIENT && !sums;
#pragma omp parallel num_threads((int)a->n_threads) reduction(| : failed)
    {
        struct work *w = 0;
        double *tangents = malloc((size_t)(a->n_tangents * N_NUMBERS + 1) * sizeof *tangents);
        if (posix_memalign((void **)&w, 64, sizeof *w)) w = 0;
        failed |= !w || !tangents;
        if (w) w->which.index[0] = -1, w->tangents = tangents;
#pragma omp for schedule(dynamic, 1)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t end = (c + 1) * pixels < n ? (c + 1) * pixels : n;
            if (failed) continue;
            w->sums = sums ? sums + c * size : 0;
            run_chunk(&whole, w, c * pixels * whole.per_pixel, end * whole.per_pixel);
        }
        free(w);
        free(tangents);
    }
    for (int64_t c = 0; sums && !failed && c < chunks; c++) merge(&whole, sums + c * size);
    free(sums);
    return failed;
}

int RAY_JOIN(nbt_profile_value, SET)(const struct profile_args *a) { return run(a, VALUE); }
int RAY_JOIN(nbt_profile_gradient, SET)(const struct profile_args *a) { return run(a, GRADIENT); }
int RAY_JOIN(nbt_profile_tangents, SET)(const struct profile_args *a) { return run(a, TANGENT); }
