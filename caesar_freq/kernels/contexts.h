/* Contexts of the coefficients of one time block, and their scale bins (entropy/coder.py). */
#ifndef CAESAR_CONTEXTS_H
#define CAESAR_CONTEXTS_H

#include <stdint.h>

#include "kernels.h"

enum { MAGNITUDE_CAP = 4095 };

/* What all time blocks of a volume share, and the block at hand. Arrays are C-contiguous. */
typedef struct {
    int64_t bt, bh, bw, nh, nw;
    const int64_t *shell_starts;                      /* context.shells */
    const int16_t *positions;
    const uint8_t *planes;                            /* context.plane_features */
    const uint8_t *row_ok, *column_ok;                /* [nh, bh], [nw, bw] */
    const uint8_t *log_table;                         /* context.LOG_TABLE as bytes */
    const network_t *network;
    const int32_t *b1, *w_plane;                      /* [16], [7, 16] */
    const int32_t *cumulative, *escape, *coarse;      /* [B, 114], [B], [B, 257], B = 80 or 160 */
    const int32_t *class_low, *class_bits;            /* [112] */
    int64_t dependent;                                /* whether q counts steps of both quantisers */
    const uint8_t *time_ok;                           /* [bt] */
    int64_t first;
    int32_t *q;                                       /* [bt, bh, bw, nh, nw] */
    uint8_t *rows;        /* the same of tables: scale bins, 80 more in grid 1 */
    const int32_t *used;                              /* [nh, nw] */
    int16_t *m;           /* magnitudes, shape of q */
    const int32_t *p;     /* q of the block before, if there is one */
    uint8_t *log_m;       /* their logarithms */
    const uint8_t *log_p;
} block_t;

/* Room for one plane. */
typedef struct {
    int16_t *sums[3];   /* of neighbours' magnitudes, a plane with margins each */
    int16_t *line;      /* one without margins */
    int16_t *none;      /* two planes of zeros: neighbours that there are none of; an even number of
                         * int16 lie before, so that they serve as one of int32 */
    int32_t *near;      /* sum of `used` of the four cells around each */
    uint8_t *features, *bins;
    int32_t *cells;     /* index into a plane without margins, then into one with margins */
    int64_t n;          /* cells that are coded */
} plane_t;

int make_room(plane_t *plane, const block_t *b);
void give_back(plane_t *plane);
int32_t last_shell(const block_t *b);

/* Cells of frequency c of shell s that are coded; returns the frequency's number. */
int64_t next_cells(const block_t *b, plane_t *plane, int64_t s, int64_t c);
/* The same, and their bins. */
int64_t next_plane(const block_t *b, plane_t *plane, int64_t s, int64_t c);

static inline void remember(const block_t *b, int64_t at, int32_t value)
{
    const int32_t size = value < 0 ? -value : value;
    b->m[at] = (int16_t)(size < MAGNITUDE_CAP ? size : MAGNITUDE_CAP);
    b->log_m[at] = b->log_table[b->m[at]];
}

#endif
