/* Messages and the two ways to stop: 2 for what the user gave, 1 for what the machine refused. */
#include "nanobragg.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("nanoBragg_c: error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

void fail_system(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("nanoBragg_c: error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("nanoBragg_c: warning: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* The count is a double so that a product of sizes from a file cannot overflow before it is checked. */
void *allocate(double count, size_t size, const char *what) {
    void *memory;
    if (!(count >= 1.0) || count * (double)size > MAX_BYTES)
        fail("%s would need %.3g bytes; at most 2 GB are allowed", what, count * (double)size);
    memory = calloc((size_t)count, size);
    if (memory == NULL) fail_system("no memory for %s (%.3g bytes)", what, count * (double)size);
    return memory;
}

FILE *open_or_fail(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        if (mode[0] == 'r') fail("cannot read %s: %s", path, strerror(errno));
        fail_system("cannot write %s: %s", path, strerror(errno));
    }
    return file;
}
