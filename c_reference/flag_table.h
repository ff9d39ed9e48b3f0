/* The flag table's row. One row a name; aliases are rows of their own. */
#ifndef FLAG_TABLE_H
#define FLAG_TABLE_H

#include "nanobragg.h"

enum kind {
    REAL,     /* one number, copied to `count` consecutive fields */
    INTEGER,  /* the same, and it must be whole */
    REALS,    /* `count` numbers */
    INTEGERS,
    CHOICE,   /* no value: the int field becomes `scale` */
    TEXT,     /* a file name */
    IGNORED,  /* `count` values, accepted for the sake of old command lines */
    MISSET,   /* three angles, or the word random */
    COMPAT,
    PIVOT
};
enum check { ANY, NOT_NEGATIVE, POSITIVE, POSITIVE_OR_INF };
enum effect { NOTHING, CHOOSE_BEAM, CHOOSE_SAMPLE, IS_VECTOR, IS_ORIGIN, IS_CONVENTION, IS_ENERGY, IS_EXACT };

typedef struct {
    const char *name;
    enum kind kind;
    size_t offset;
    int count;
    double scale; /* the flag's unit in ours: mrad to rad, micron to mm, percent to a fraction */
    enum check check;
    enum effect effect;
} Flag;

extern const Flag FLAGS[]; /* ends with a NULL name */

#endif
