/* The small CNN's two convolutions, for one thread of a CPU.
 *
 * conv3x3 -> ReLU -> conv3x3 -> 2x2 max-pool -> ReLU -> dropout of 28 x 28 images,
 * forward and backward. Images are processed one at a time, so that all values of an image
 * stay in the nearest caches. Two things make the backward pass cheap. Only one value of each
 * 2 x 2 window has a gradient, so three quarters of the products of a dense convolution would
 * be with zeros, and are left out. The first layer's values are computed again, not stored.
 *
 * Compiled for this machine's processor and one pair of channel counts (-DC1= -DC2=)
 * by __init__.py. Images and features are in (height, width, channel) order; `float`
 * throughout.
 */

#include <stdint.h>
#include <string.h>

#define IN 28       /* side of an image */
#define MID 26      /* after the first convolution */
#define POOLED 12   /* after the second, pooled */
#define ALIVE 4     /* bit of a code byte: passed ReLU and dropout; bits 0, 1: place in window */

/* Floats in a vector register, and how many accumulators its register file holds. */
#if defined(__AVX512F__)
#define LANES 16
#define TILE 12 /* columns */
#elif defined(__AVX__)
#define LANES 8
#define TILE 6
#else
#define LANES 4
#define TILE 12
#endif

#define ROUND_UP(n, m) (((n) + (m)-1) / (m) * (m))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* P1, P2: channels with padding. A vector holds V1 or V2 of them. */
#define V1 (C1 <= 4 ? 4 : MIN(LANES, C1 <= 8 ? 8 : 16))
#define P1 ROUND_UP(C1, V1)
#define V2 (C2 <= 4 ? 4 : MIN(LANES, C2 <= 8 ? 8 : 16))
#define P2 ROUND_UP(C2, V2)
#define ROW_VECTORS (4 * P1 / LANES) /* vectors in four pixels, as many as a window depends on */

typedef float vec1 __attribute__((vector_size(V1 * 4), aligned(4), may_alias));
typedef float vec2 __attribute__((vector_size(V2 * 4), aligned(4), may_alias));
typedef int32_t int2 __attribute__((vector_size(V2 * 4)));
typedef uint8_t byte2 __attribute__((vector_size(V2), aligned(1), may_alias));
typedef float row __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define UNROLL _Pragma("GCC unroll 64")
/* For each lane of the mask that a comparison gives: mask ? a : 0, and mask ? a : b. */
#define WHERE(mask, a) ((__typeof__(a))((mask) & (__typeof__(mask))(a)))
#define SELECT(mask, a, b) \
    ((__typeof__(a))((__typeof__(mask))WHERE(mask, a) | (__typeof__(mask))WHERE(~(mask), b)))
/* A mask: v takes best's place. As in torch, a NaN beats every number. */
#define BEATS(v, best) (((v) > (best)) | ((v) != (v)))

typedef struct {
    float w1[9][P1], b1[P1];
    float w2[P2 / V2][9][C1][V2], b2[P2];  /* for the forward pass */
    float w2_framed[C2][5][5][P1];         /* for the backward pass: 3 x 3 in a frame of zeros */
} Weights;

/* w1: [C1][3][3]. w2: [C2][3][3][C1], torch's channels-last order. */
static void load_weights(Weights *k, const float *w1, const float *b1, const float *w2,
                         const float *b2) {
    memset(k, 0, sizeof *k);
    for (int c = 0; c < C1; c++) {
        k->b1[c] = b1[c];
        for (int t = 0; t < 9; t++) k->w1[t][c] = w1[c * 9 + t];
    }
    for (int o = 0; o < C2; o++) {
        k->b2[o] = b2[o];
        for (int t = 0; t < 9; t++)
            for (int c = 0; c < C1; c++) {
                float w = w2[(o * 9 + t) * C1 + c];
                k->w2[o / V2][t][c][o % V2] = w;
                k->w2_framed[o][t / 3 + 1][t % 3 + 1][c] = w;
            }
    }
}

/* The first layer's values, and a row of padding, because the backward pass reads past the end. */
typedef float Hidden[MID + 1][MID][P1];

static void first_layer(const Weights *k, const float *x, Hidden a) {
    for (int v = 0; v < P1; v += V1)
        for (int i = 0; i < MID; i++)
            for (int j = 0; j < MID; j++) {
                vec1 sum = *(const vec1 *)(k->b1 + v);
                UNROLL for (int t = 0; t < 9; t++)
                    sum += *(const vec1 *)(k->w1[t] + v) * x[(i + t / 3) * IN + j + t % 3];
                *(vec1 *)(a[i][j] + v) = WHERE(~(sum <= 0), sum); /* a NaN stays */
            }
}

/* Second convolution of two rows and TILE columns from row i, column j; channels of block b. */
static inline void convolve(const Weights *k, Hidden a, int b, int i, int j, vec2 sum[2][TILE]) {
    UNROLL for (int r = 0; r < 2; r++)
        UNROLL for (int s = 0; s < TILE; s++) sum[r][s] = (vec2){0};
    for (int t = 0; t < 9; t++) {
        const float *from = a[i + t / 3][j + t % 3];
        for (int c = 0; c < C1; c++) {
            vec2 w = *(const vec2 *)k->w2[b][t][c];
            UNROLL for (int r = 0; r < 2; r++)
                UNROLL for (int s = 0; s < TILE; s++) sum[r][s] += w * from[(r * MID + s) * P1 + c];
        }
    }
}

/* Pooling, bias, ReLU and dropout of one 2 x 2 window's V2 channels from channel o.
 * noise: one random byte per value, kept if >= threshold; NULL keeps all. */
static inline void pool(const Weights *k, int o, vec2 v0, vec2 v1, vec2 v2, vec2 v3,
                        const uint8_t *noise, int threshold, float scale, float *out,
                        uint8_t *code) {
    vec2 best = v0;
    int2 place = {0};
    place = SELECT(BEATS(v1, best), (int2){0} + 1, place);
    best = SELECT(BEATS(v1, best), v1, best);
    place = SELECT(BEATS(v2, best), (int2){0} + 2, place);
    best = SELECT(BEATS(v2, best), v2, best);
    place = SELECT(BEATS(v3, best), (int2){0} + 3, place);
    best = SELECT(BEATS(v3, best), v3, best);
    best += *(const vec2 *)(k->b2 + o);
    int2 alive = ~(best <= 0); /* true for a NaN */
    const int count = MIN(V2, C2 - o);
    if (noise) {
        byte2 bytes = {0};
        memcpy(&bytes, noise, count);
        alive &= __builtin_convertvector(bytes, int2) >= threshold;
    }
    best = WHERE(alive, best * scale);
    memcpy(out, &best, 4 * count);
    if (code) {
        byte2 codes = __builtin_convertvector(place | (alive & ALIVE), byte2);
        memcpy(code, &codes, count);
    }
}

/* images: [n][28][28]. noise: [n][12][12][C2] or NULL. out, code: [n][12][12][C2];
 * code, which backward needs, may be NULL. */
void forward(int64_t n, const float *images, const float *w1, const float *b1, const float *w2,
             const float *b2, const uint8_t *noise, int threshold, float scale, float *out,
             uint8_t *code) {
    Weights k;
    Hidden a;
    load_weights(&k, w1, b1, w2, b2);
    for (int64_t m = 0; m < n; m++) {
        first_layer(&k, images + m * IN * IN, a);
        for (int b = 0; b < P2 / V2; b++)
            for (int i = 0; i < POOLED; i++)
                for (int j = 0; j < 2 * POOLED; j += TILE) {
                    vec2 sum[2][TILE];
                    convolve(&k, a, b, 2 * i, j, sum);
                    UNROLL for (int s = 0; s < TILE; s += 2) {
                        int64_t at = ((m * POOLED + i) * POOLED + (j + s) / 2) * C2 + b * V2;
                        pool(&k, b * V2, sum[0][s], sum[0][s + 1], sum[1][s], sum[1][s + 1],
                             noise ? noise + at : 0, threshold, scale, out + at,
                             code ? code + at : 0);
                    }
                }
    }
}

/* Adds one image's part to the second layer's weight gradient, and computes the gradient at the
 * first layer's values. g: [12][12][C2]. */
static void second_backward(const Weights *k, Hidden a, const float *g, const uint8_t *code,
                            float dw2[C2][3][4][P1], Hidden da) {
    /* Offsets from a window's first value to its four places, in `a` and in `w2_framed`. */
    static const int in_a[4] = {0, P1, MID * P1, (MID + 1) * P1};
    static const int in_w[4] = {6 * P1, 5 * P1, P1, 0};
    memset(da, 0, sizeof(Hidden));
    for (int o = 0; o < C2; o++) {
        row sum[3][ROW_VECTORS];
        UNROLL for (int r = 0; r < 3; r++)
            UNROLL for (int v = 0; v < ROW_VECTORS; v++)
                sum[r][v] = *(row *)(dw2[o][r][0] + v * LANES);
        for (int i = 0; i < POOLED; i++)
            for (int j = 0; j < POOLED; j++) {
                int at = (i * POOLED + j) * C2 + o;
                const float *from = a[2 * i][2 * j] + in_a[code[at] & 3];
                UNROLL for (int r = 0; r < 3; r++)
                    UNROLL for (int v = 0; v < ROW_VECTORS; v++)
                        sum[r][v] += g[at] * *(const row *)(from + r * MID * P1 + v * LANES);
            }
        UNROLL for (int r = 0; r < 3; r++)
            UNROLL for (int v = 0; v < ROW_VECTORS; v++)
                *(row *)(dw2[o][r][0] + v * LANES) = sum[r][v];
    }
    for (int i = 0; i < POOLED; i++)
        for (int j = 0; j < POOLED; j++) {
            row sum[4][ROW_VECTORS];
            UNROLL for (int r = 0; r < 4; r++)
                UNROLL for (int v = 0; v < ROW_VECTORS; v++) sum[r][v] = (row){0};
            for (int o = 0; o < C2; o++) {
                int at = (i * POOLED + j) * C2 + o;
                const float *w = k->w2_framed[o][0][0] + in_w[code[at] & 3];
                UNROLL for (int r = 0; r < 4; r++)
                    UNROLL for (int v = 0; v < ROW_VECTORS; v++)
                        sum[r][v] += g[at] * *(const row *)(w + r * 5 * P1 + v * LANES);
            }
            UNROLL for (int r = 0; r < 4; r++)
                UNROLL for (int v = 0; v < ROW_VECTORS; v++)
                    *(row *)(da[2 * i + r][2 * j] + v * LANES) += sum[r][v];
        }
}

static void first_backward(const float *x, Hidden a, Hidden da, float dw1[10][P1]) {
    for (int v = 0; v < P1; v += V1) {
        vec1 sum[10];
        UNROLL for (int t = 0; t < 10; t++) sum[t] = *(vec1 *)(dw1[t] + v);
        for (int i = 0; i < MID; i++)
            for (int j = 0; j < MID; j++) {
                vec1 d = *(vec1 *)(da[i][j] + v);
                d = WHERE(*(vec1 *)(a[i][j] + v) != 0, d);
                UNROLL for (int t = 0; t < 9; t++) sum[t] += d * x[(i + t / 3) * IN + j + t % 3];
                sum[9] += d;
            }
        UNROLL for (int t = 0; t < 10; t++) *(vec1 *)(dw1[t] + v) = sum[t];
    }
}

/* grad: gradient of `out`, [n][12][12][C2]; code: as forward wrote it. Writes the parameters'
 * gradients, in the parameters' order. */
void backward(int64_t n, const float *images, const float *w1, const float *b1, const float *w2,
              const float *b2, const uint8_t *code, float scale, const float *grad, float *dw1,
              float *db1, float *dw2, float *db2) {
    Weights k;
    Hidden a = {0}, da;
    float g[POOLED * POOLED * C2], sum1[10][P1] = {0}, sum2[C2][3][4][P1] = {0}, bias[C2] = {0};
    load_weights(&k, w1, b1, w2, b2);
    for (int64_t m = 0; m < n; m++) {
        const uint8_t *codes = code + m * POOLED * POOLED * C2;
        const float *grads = grad + m * POOLED * POOLED * C2;
        for (int at = 0; at < POOLED * POOLED * C2; at++) {
            float live = grads[at] * scale;
            g[at] = codes[at] & ALIVE ? live : 0;
        }
        for (int p = 0; p < POOLED * POOLED; p++)
            for (int o = 0; o < C2; o++) bias[o] += g[p * C2 + o];
        first_layer(&k, images + m * IN * IN, a);
        second_backward(&k, a, g, codes, sum2, da);
        first_backward(images + m * IN * IN, a, da, sum1);
    }
    memcpy(db2, bias, sizeof bias);
    memcpy(db1, sum1[9], 4 * C1);
    for (int c = 0; c < C1; c++)
        for (int t = 0; t < 9; t++) dw1[c * 9 + t] = sum1[t][c];
    for (int o = 0; o < C2; o++)
        for (int t = 0; t < 9; t++) memcpy(dw2 + (o * 9 + t) * C1, sum2[o][t / 3][t % 3], 4 * C1);
}
