/* y = relu(batch_norm(x) [+ residual]) in training mode, and its gradients, on one thread.
 *
 * Values are in (image, height, width, channel) order, as float32 or (-DBF16=1) bfloat16;
 * arithmetic is float32. Only a few terms are summed in float32, and these sums are added in
 * double. The terms are differences from roughly the mean. Otherwise thousands of equal values,
 * as in an image's background, would leave the same rounding error thousands of times.
 */

#include <math.h>
#include <stdint.h>

#define LANES 16      /* floats in the widest vector register */
#define MIN_WIDTH 128
#define BLOCK 64      /* wide rows that are summed in float */
#define SAMPLE 64     /* pixels from which the mean is estimated */
#define MIN(a, b) ((a) < (b) ? (a) : (b))

typedef union {
    float value;
    uint32_t bits;
} Float;

#if BF16
typedef uint16_t stored;

static inline float load(stored x) { return (Float){.bits = (uint32_t)x << 16}.value; }

/* Rounds to the nearest, ties to even. A carry must not turn a NaN into a number. */
static inline stored store(float x) {
    uint32_t bits = (Float){x}.bits;
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    return (x != x ? bits | 0x400000 : rounded) >> 16;
}
#else
typedef float stored;

static inline float load(stored x) { return x; }
static inline stored store(float x) { return x; }
#endif

/* Length of a wide row: several pixels side by side, so that loops fill the vector registers
 * even with few channels. */
static int64_t wide(int64_t channels) {
    int64_t width = channels;
    while (width % LANES || width < MIN_WIDTH) width *= 2;
    return width;
}

/* Repeats the first `channels` values to fill `width`. */
static void repeat(int64_t channels, int64_t width, float *a) {
    for (int64_t i = channels; i < width; i++) a[i] = a[i - channels];
}

/* Adds a block's sums to those of the channels, and clears the block. */
static void add_up(int64_t channels, int64_t width, float *block, double *sum) {
    for (int64_t at = 0; at < width; at += channels)
        for (int64_t c = 0; c < channels; c++) sum[c] += block[at + c];
    for (int64_t i = 0; i < width; i++) block[i] = 0;
}

/* Sums of x - shift and of its square, per channel. shift: [width]. */
static void moments(int64_t size, int64_t channels, int64_t width, const stored *restrict x,
                    const float *restrict shift, double *sum, double *sum2) {
    float s[width], s2[width];
    for (int64_t c = 0; c < channels; c++) sum[c] = sum2[c] = 0;
    for (int64_t i = 0; i < width; i++) s[i] = s2[i] = 0;
    for (int64_t at = 0; at < size;) {
        int64_t end = MIN(size, at + BLOCK * width);
        for (; end - at >= 4 * width; at += 4 * width) {
            const stored *x0 = x + at, *x1 = x0 + width, *x2 = x1 + width, *x3 = x2 + width;
            for (int64_t i = 0; i < width; i++) {
                float a = load(x0[i]) - shift[i], b = load(x1[i]) - shift[i];
                float c = load(x2[i]) - shift[i], d = load(x3[i]) - shift[i];
                s[i] += (a + b) + (c + d);
                s2[i] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for (; at < end; at += width)
            for (int64_t i = 0; i < MIN(width, end - at); i++) {
                float a = load(x[at + i]) - shift[i];
                s[i] += a;
                s2[i] += a * a;
            }
        add_up(channels, width, s, sum);
        add_up(channels, width, s2, sum2);
    }
}

/* x, residual (or NULL), y: [rows][channels]. stats: mean and 1 / standard deviation,
 * [2][channels], for backward. Updates the running statistics. */
void forward(int64_t rows, int64_t channels, const stored *restrict x,
             const stored *restrict residual, const float *weight, const float *bias, float eps,
             float momentum, float *running_mean, float *running_var, stored *restrict y,
             double *stats) {
    const int64_t width = wide(channels), size = rows * channels;
    float shift[width], scale[width], offset[width];
    double sum[channels], sum2[channels], *mean = stats, *invstd = stats + channels;
    int64_t stride = (rows + SAMPLE - 1) / SAMPLE, sampled = (rows + stride - 1) / stride;
    for (int64_t c = 0; c < channels; c++) shift[c] = 0;
    for (int64_t r = 0; r < rows; r += stride)
        for (int64_t c = 0; c < channels; c++) shift[c] += load(x[r * channels + c]) / sampled;
    repeat(channels, width, shift);
    moments(size, channels, width, x, shift, sum, sum2);
    for (int64_t c = 0; c < channels; c++) {
        double var = (sum2[c] - sum[c] * sum[c] / rows) / rows;
        var = var < 0 ? 0 : var; /* a NaN stays */
        mean[c] = shift[c] + sum[c] / rows;
        invstd[c] = 1 / sqrt(var + eps);
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_var[c] += momentum * (var * rows / (rows - 1) - running_var[c]);
        shift[c] = mean[c];
        scale[c] = weight[c] * invstd[c];
        offset[c] = bias[c] - (mean[c] - shift[c]) * scale[c];
    }
    repeat(channels, width, shift);
    repeat(channels, width, scale);
    repeat(channels, width, offset);
    for (int64_t at = 0; at < size; at += width) {
        const int64_t n = MIN(width, size - at);
        if (residual)
            for (int64_t i = 0; i < n; i++) {
                float v = (load(x[at + i]) - shift[i]) * scale[i] + offset[i];
                v += load(residual[at + i]);
                y[at + i] = store(v <= 0 ? 0 : v);
            }
        else
            for (int64_t i = 0; i < n; i++) {
                float v = (load(x[at + i]) - shift[i]) * scale[i] + offset[i];
                y[at + i] = store(v <= 0 ? 0 : v);
            }
    }
}

/* The gradient before the ReLU. A NaN in y lets it pass. */
static inline stored masked(stored grad, stored y) { return y == 0 ? 0 : grad; }

/* grad: gradient of y. dresidual may be NULL. The rest is as in forward. */
void backward(int64_t rows, int64_t channels, const stored *restrict grad,
              const stored *restrict x, const stored *restrict y, const float *weight,
              const double *stats, stored *restrict dx, stored *restrict dresidual,
              float *dweight, float *dbias) {
    const int64_t width = wide(channels), size = rows * channels;
    const double *mean = stats, *invstd = stats + channels;
    float shift[width], s[width], sx[width], of_g[width], of_x[width], offset[width];
    double sum[channels], sumx[channels];
    for (int64_t c = 0; c < channels; c++) {
        shift[c] = mean[c];
        sum[c] = sumx[c] = 0;
    }
    repeat(channels, width, shift);
    for (int64_t i = 0; i < width; i++) s[i] = sx[i] = 0;
    for (int64_t at = 0; at < size;) {
        int64_t end = MIN(size, at + BLOCK * width);
        for (; end - at >= 2 * width; at += 2 * width) {
            const int64_t next = at + width;
            for (int64_t i = 0; i < width; i++) {
                float g0 = load(masked(grad[at + i], y[at + i]));
                float g1 = load(masked(grad[next + i], y[next + i]));
                s[i] += g0 + g1;
                sx[i] += g0 * (load(x[at + i]) - shift[i]) + g1 * (load(x[next + i]) - shift[i]);
            }
        }
        for (; at < end; at += width)
            for (int64_t i = 0; i < MIN(width, end - at); i++) {
                float g = load(masked(grad[at + i], y[at + i]));
                s[i] += g;
                sx[i] += g * (load(x[at + i]) - shift[i]);
            }
        add_up(channels, width, s, sum);
        add_up(channels, width, sx, sumx);
    }
    /* dx = scale * (g - mean of g - (x - mean) * invstd^2 * mean of g (x - mean)) */
    for (int64_t c = 0; c < channels; c++) {
        double rest = mean[c] - shift[c], scale = weight[c] * invstd[c];
        sumx[c] -= rest * sum[c];
        double slope = -scale * invstd[c] * invstd[c] * sumx[c] / rows;
        of_g[c] = scale;
        of_x[c] = slope;
        offset[c] = -scale * sum[c] / rows - slope * rest;
        dweight[c] = sumx[c] * invstd[c];
        dbias[c] = sum[c];
    }
    repeat(channels, width, of_g);
    repeat(channels, width, of_x);
    repeat(channels, width, offset);
    for (int64_t at = 0; at < size; at += width) {
        const int64_t n = MIN(width, size - at);
        for (int64_t i = 0; i < n; i++) {
            float g = load(masked(grad[at + i], y[at + i]));
            dx[at + i] = store(g * of_g[i] + ((load(x[at + i]) - shift[i]) * of_x[i] + offset[i]));
        }
        if (dresidual)
            for (int64_t i = 0; i < n; i++) dresidual[at + i] = masked(grad[at + i], y[at + i]);
    }
}
