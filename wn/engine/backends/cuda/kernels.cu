// The kernels of the CuPy backend. REAL is float or double: the file is compiled once for each.
//
// A host compiler builds the same file with tests/engine/backends/cuda/host.h, which stands for CUDA's own names; the tests
// compare what it computes with the NumPy backend. So: no headers, no atomics, no warp intrinsics. Threads
// of a block meet at __syncthreads() alone, and what they add up is added in an order that shapes alone decide.
//
// Arrays are population first and batch last (P|1, ..., B); samples are threads, so that neighbouring threads read
// neighbouring values. A leading 1 is shared by the population. Formulas: wn/engine/backends/plain/base.py and docs/layers.

#define KERNEL extern "C" __global__ void
#define EACH(i, count) \
    (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (i64)gridDim.x * blockDim.x)
#define EACH_SAMPLE(n, batch) \
    (int n = blockIdx.y * blockDim.x + threadIdx.x; n < (batch); n += gridDim.y * blockDim.x)

#define ALONE __restrict__  // nothing else is written where this points: loads need not wait for stores

typedef unsigned int u32;
typedef long long i64;

// ---- arithmetic that is rounded step by step, never fused ---------------------------------------------------

__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }
__device__ inline double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ inline double minus(double a, double b) { return __dsub_rn(a, b); }

// Sum of a value of each thread of the block, a power of two of them, given to all: in halves, always the same.
template <class T>
__device__ T block_sum(T value) {
    __shared__ T parts[256];
    parts[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
        __syncthreads();
    }
    const T sum = parts[0];
    __syncthreads();  // all have read it before the next sum begins
    return sum;
}

// ---- noise: the bits of wn/random.py, derived in docs/noise-streams.md ----------------------------------------

__device__ inline void philox(u32 (&x)[4], u32 key0, u32 key1) {
    for (int round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(0xD2511F53u, x[0]), low0 = 0xD2511F53u * x[0];
        const u32 high1 = __umulhi(0xCD9E8D57u, x[2]), low1 = 0xCD9E8D57u * x[2];
        x[0] = high1 ^ x[1] ^ key0, x[1] = low1, x[2] = high0 ^ x[3] ^ key1, x[3] = low0;
        key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
}

template <int N>
__device__ inline float polynomial(const float (&coefficients)[N], float x) {
    float value = coefficients[N - 1];
#pragma unroll
    for (int i = N - 2; i >= 0; --i) value = plus(times(value, x), coefficients[i]);
    return value;
}

// -2 ln u in units of ln 4 2^-23 for u = (word + shift) 2^-32.
__device__ inline float logarithm(u32 word, float shift) {
    const float series[] = {-12102213.0f, 6049134.0f, -4095530.2f, 2322458.2f, -6118023.5f, -7343536.5f,
                            -11733525.0f};
    const u32 top = 0x4F000000u;  // the bits of 2^31
    const float t = plus(__int2float_rn((int)word), shift);
    const u32 bits = __float_as_uint(t), halvings = top - ((bits < top ? bits : top) & 0x7F800000u);
    const float x = times(t, __uint_as_float(halvings + 0x2F800000u)), f = minus(x, ceilf(x));
    return plus(__uint2float_rn(halvings), times(f, polynomial(series, f)));
}

__device__ inline float signed_by(float size, u32 word) {
    return __uint_as_float(__float_as_uint(size) ^ (word & 0x80000000u));
}

__device__ inline void box_muller(u32 word0, u32 word1, float& z0, float& z1) {
    const float cosine[] = {0.00040652073f, -9.500171e-05f, 8.105644e-06f, -3.440411e-07f};
    const float sine[] = {0.0006385614f, -0.00026259772f, 3.239561e-05f, -1.9001367e-06f, 6.16577e-08f};
    const float radius = signed_by(__fsqrt_rn(logarithm(word0, 0.5f)), word1);
    const float v = times(__int2float_rn((int)(word1 << 1)), 4.656612873077393e-10f), h = times(v, v);  // 2^-31
    z0 = times(radius, times(minus(1.0f, h), polynomial(cosine, h)));
    z1 = times(radius, times(v, polynomial(sine, h)));
}

#define UNIFORM_SCALE 8.065489942588044e-10f  // sqrt(3) 2^-31
#define LAPLACE_SCALE 5.8427939819694075e-08f  // ln 2 2^-23 / sqrt(2)
enum { NORMAL, UNIFORM, LAPLACE };  // in the order of wn.random.DISTRIBUTIONS

// Four draws of mean 0 and variance 1: features 4 block ... 4 block + 3 of a sample.
__device__ inline void draw(float (&z)[4], u32 block, u32 sample, u32 epoch, u32 word, const u32* key,
                            int distribution) {
    u32 words[4] = {block, sample, epoch, word};
    philox(words, key[0], key[1]);
    if (distribution == NORMAL) {
        box_muller(words[0], words[1], z[0], z[1]);
        box_muller(words[2], words[3], z[2], z[3]);
    } else if (distribution == UNIFORM) {
        for (int k = 0; k < 4; ++k) z[k] = times(plus(__int2float_rn((int)words[k]), 0.5f), UNIFORM_SCALE);
    } else {
        for (int k = 0; k < 4; ++k)
            z[k] = signed_by(times(logarithm(words[k] << 1, 1.0f), LAPLACE_SCALE), words[k]);
    }
}

// Grid: counters of a member, members. keys: (P, 2); u: (P, N), in [0, 1): the top 24 bits of a word times 2^-24.
KERNEL uniforms(float* u, const u32* keys, u32 word, i64 count) {
    for EACH(block, (count + 3) / 4) {
        u32 words[4] = {(u32)block, 0, 0, word};
        philox(words, keys[2 * blockIdx.y], keys[2 * blockIdx.y + 1]);
        for (int k = 0; k < 4 && 4 * block + k < count; ++k)
            u[blockIdx.y * count + 4 * block + k] = times(__uint2float_rn(words[k] >> 8), 5.9604644775390625e-8f);
    }
}

// Grid: feature blocks, parts of the batch, seeds. keys: (S, 2); z: (S, F, B).
KERNEL standard_draws(float* out, const u32* keys, const u32* ids, const u32* epoch, u32 word, int features, int batch,
                      int distribution) {
    for EACH_SAMPLE(n, batch) {
        float z[4];
        draw(z, blockIdx.x, ids[n], *epoch, word, keys + 2 * blockIdx.z, distribution);
        for (int k = 0; k < 4 && 4 * (int)blockIdx.x + k < features; ++k)
            out[((i64)blockIdx.z * features + 4 * blockIdx.x + k) * batch + n] = z[k];
    }
}

struct Noise {
    int population, x_members, m_members, features, batch, members;  // members of one thread
    u32 mul, add;                                                    // stream words, ABSENT where there is none
    int add_first, distribution;
};
#define ABSENT 0xFFFFFFFFu

// y = x M + D, or x M + D M if add_first; M also to m, for its first m_members members.
// Grid: feature blocks, parts of the batch, groups of members; those with the same key share a thread's draws.
// values: scale and shift of M, scale and shift of D, each (P,); keys: (P, 2).
KERNEL apply_draws(const REAL* ALONE x, REAL* ALONE y, REAL* ALONE m, const REAL* ALONE values, const u32* ALONE keys,
                   const u32* ALONE ids, const u32* epoch, const Noise s) {
    const int first = blockIdx.z * s.members, last = min(first + s.members, s.population);
    for EACH_SAMPLE(n, s.batch) {
        float z_mul[4] = {}, z_add[4] = {};
        for (int p = first; p < last; ++p) {
            const u32* key = keys + 2 * p;
            if (p == first || key[0] != key[-2] || key[1] != key[-1]) {
                if (s.mul != ABSENT) draw(z_mul, blockIdx.x, ids[n], *epoch, s.mul, key, s.distribution);
                if (s.add != ABSENT) draw(z_add, blockIdx.x, ids[n], *epoch, s.add, key, s.distribution);
            }
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int feature = 4 * blockIdx.x + k;
                if (feature >= s.features) break;
                const i64 there = (i64)feature * s.batch + n, size = (i64)s.features * s.batch;
                REAL value = x[(s.x_members == 1 ? 0 : p * size) + there], factor = 1;
                if (s.mul != ABSENT) {
                    factor = plus(times((REAL)z_mul[k], values[p]), values[s.population + p]);
                    value = times(value, factor);
                    if (p < s.m_members) m[p * size + there] = factor;
                }
                if (s.add != ABSENT) {
                    REAL offset = plus(times((REAL)z_add[k], values[2 * s.population + p]),
                                       values[3 * s.population + p]);
                    if (s.add_first && s.mul != ABSENT) offset = times(offset, factor);
                    value = plus(value, offset);
                }
                y[p * size + there] = value;
            }
        }
    }
}

// ---- element by element; grid: elements of a member, members ---------------------------------------------------

KERNEL multiply(const REAL* ALONE dy, const REAL* ALONE m, REAL* ALONE dx, i64 size, int m_members) {
    const REAL* factor = m + (m_members == 1 ? 0 : blockIdx.y * size);
    for EACH(i, size) dx[blockIdx.y * size + i] = dy[blockIdx.y * size + i] * factor[i];
}

KERNEL relu(const REAL* ALONE x, REAL* ALONE y, i64 size) {
    for EACH(i, size) y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : (REAL)0;
}

KERNEL relu_backward(const REAL* ALONE dy, const REAL* ALONE y, REAL* ALONE dx, i64 size, int y_members) {
    const REAL* sign = y + (y_members == 1 ? 0 : blockIdx.y * size);
    for EACH(i, size) dx[blockIdx.y * size + i] = sign[i] > 0 ? dy[blockIdx.y * size + i] : (REAL)0;
}

// Grid: rows, parts of the batch. y: (rows, B); b: of each of the last b_rows rows.
KERNEL add_bias(REAL* y, const REAL* b, int b_rows, int batch) {
    for EACH_SAMPLE(n, batch) y[(i64)blockIdx.x * batch + n] += b[blockIdx.x % b_rows];
}

// Grid: rows. sums[r] = sum of x[r], (rows, N).
KERNEL row_sums(const REAL* x, REAL* sums, i64 size) {
    REAL sum = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x) sum += x[blockIdx.x * size + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// ---- batches: images on the device become a network input, cropped and flipped on the way ------------------------

struct Images {
    int channels, height, width, batch, padding, augments, flips;
    u32 word, key0, key1;  // where crops and flips are drawn from
};

// Grid: pixels (c, i, j), parts of the batch. x = (image / scale - mean) / std; standard: means, then stds, (2, C).
template <class T>
__device__ void gather(const T* images, const u32* samples, const REAL* standard, const u32* epoch, REAL* x,
                       REAL scale, const Images& s) {
    const int j = blockIdx.x % s.width, i = blockIdx.x / s.width % s.height, c = blockIdx.x / (s.width * s.height);
    for EACH_SAMPLE(n, s.batch) {
        int row = i, column = j;
        if (s.augments) {
            u32 words[4] = {0, samples[n], *epoch, s.word};
            philox(words, s.key0, s.key1);
            if (s.flips && words[2] >> 31) column = s.width - 1 - j;
            row += (int)__umulhi(words[0], 2 * s.padding + 1) - s.padding;
            column += (int)__umulhi(words[1], 2 * s.padding + 1) - s.padding;
        }
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        const i64 image = (i64)samples[n] * s.channels + c;
        const REAL value = inside ? (REAL)images[(image * s.height + row) * s.width + column] : (REAL)0;
        x[(i64)blockIdx.x * s.batch + n] = (value / scale - standard[c]) / standard[s.channels + c];
    }
}

KERNEL gather_uint8(const unsigned char* images, const u32* samples, const REAL* standard, const u32* epoch, REAL* x,
                    REAL scale, const Images s) {
    gather(images, samples, standard, epoch, x, scale, s);
}

KERNEL gather_float32(const float* images, const u32* samples, const REAL* standard, const u32* epoch, REAL* x,
                      REAL scale, const Images s) {
    gather(images, samples, standard, epoch, x, scale, s);
}

// ---- convolution: directly, sums in registers -----------------------------------------------------------------

struct Sliding {
    int population, x_members, w_members, inputs, outputs;  // channels
    int height, width, rows, columns;                       // of x and of y
    int kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w;
    int batch, slices;
};

#define OUTPUTS 8  // channels of the result that a thread computes,
#define ACROSS 4   // each at so many neighbouring columns,
#define STAGED 64  // from so many places of the kernel at a time
#define ENTRIES 8  // places of the kernel whose gradient a thread computes
#define WARPS 8    // of 32 threads, at most, in a block of the weight gradient

__device__ inline int tiles(int count, int size) { return (count + size - 1) / size; }

// Where place i of the kernel looks from row or column u of the result; outside 0 ... size - 1 are zeros.
// BACKWARD asks who looked at pixel u: the row v of y with v stride + i - padding = u, or -1 if there is none.
template <bool BACKWARD>
__device__ inline int seen(int u, int i, int stride, int padding) {
    if (!BACKWARD) return u * stride + i - padding;
    const int moved = u + padding - i;
    return stride == 1 ? moved : moved >= 0 && moved % stride == 0 ? moved / stride : -1;
}

// Forward y = w * x + b, or backward dx from dy: one sum over source channels and places of the kernel.
// Grid: tiles of channels, tiles of columns, rows, members (all in x), parts of the batch. b: (P|1, O), as w.
template <bool BACKWARD>
__device__ inline void slide(const REAL* source, const REAL* w, const REAL* b, REAL* result, const Sliding& s) {
    __shared__ REAL staged[STAGED][OUTPUTS];
    const int sources = BACKWARD ? s.outputs : s.inputs, targets = BACKWARD ? s.inputs : s.outputs;
    const int source_h = BACKWARD ? s.rows : s.height, source_w = BACKWARD ? s.columns : s.width;
    const int target_h = BACKWARD ? s.height : s.rows, target_w = BACKWARD ? s.width : s.columns;
    const int size = s.kernel_h * s.kernel_w, terms = sources * size;
    int rest = blockIdx.x;
    const int first = rest % tiles(targets, OUTPUTS) * OUTPUTS;
    rest /= tiles(targets, OUTPUTS);
    const int left = rest % tiles(target_w, ACROSS) * ACROSS;
    rest /= tiles(target_w, ACROSS);
    const int row = rest % target_h, p = rest / target_h;
    const int n = blockIdx.y * blockDim.x + threadIdx.x;
    source += BACKWARD || s.x_members > 1 ? (i64)p * sources * source_h * source_w * s.batch : 0;
    source += min(n, s.batch - 1);  // the last threads compute what is there already, and don't write it
    w += s.w_members > 1 ? (i64)p * s.outputs * s.inputs * size : 0;
    REAL sum[OUTPUTS][ACROSS] = {};
    int c = 0, i = 0, j = 0;
    for (int start = 0; start < terms; start += STAGED) {
        __syncthreads();
        for (int e = threadIdx.x; e < STAGED * OUTPUTS; e += blockDim.x) {
            const int term = min(start + e % STAGED, terms - 1), target = min(first + e / STAGED, targets - 1);
            const int place = BACKWARD ? (term / size * s.inputs + target) * size + term % size : target * terms + term;
            staged[e % STAGED][e / STAGED] = w[place];
        }
        __syncthreads();
        for (int term = start; term < min(start + STAGED, terms); ++term) {
            const int r = seen<BACKWARD>(row, i, s.stride_h, s.padding_h), line = (c * source_h + r) * source_w;
            if (r >= 0 && r < source_h) {  // the same for all threads: what looks beside the image is left out
                REAL value[ACROSS];
#pragma unroll
                for (int t = 0; t < ACROSS; ++t) {
                    const int q = seen<BACKWARD>(left + t, j, s.stride_w, s.padding_w);
                    value[t] = q >= 0 && q < source_w ? source[(i64)(line + q) * s.batch] : (REAL)0;
                }
#pragma unroll
                for (int o = 0; o < OUTPUTS; ++o)
#pragma unroll
                    for (int t = 0; t < ACROSS; ++t) sum[o][t] += staged[term - start][o] * value[t];
            }
            if (++j == s.kernel_w) {
                j = 0;
                if (++i == s.kernel_h) i = 0, ++c;
            }
        }
    }
#pragma unroll
    for (int o = 0; o < OUTPUTS; ++o)
#pragma unroll
        for (int t = 0; t < ACROSS; ++t)
            if (n < s.batch && first + o < targets && left + t < target_w) {
                const i64 place = ((i64)(p * targets + first + o) * target_h + row) * target_w + left + t;
                const REAL bias = BACKWARD ? (REAL)0 : b[(s.w_members > 1 ? p * targets : 0) + first + o];
                result[place * s.batch + n] = sum[o][t] + bias;
            }
}

KERNEL convolution(const REAL* x, const REAL* w, const REAL* b, REAL* y, const Sliding s) {
    slide<false>(x, w, b, y, s);
}

KERNEL convolution_input_gradient(const REAL* dy, const REAL* w, REAL* dx, const Sliding s) {
    slide<true>(dy, w, w, dx, s);
}

// dw, in `slices` parts that are still to be added: (slices, P, O, C KH KW), each over its share of the rows of y.
// Grid: groups of tiles of places, tiles of outputs, members (all in x), slices. A warp of the block has a tile, its
// threads are samples; the warps of a block read the same dy.
KERNEL __launch_bounds__(32 * WARPS, sizeof(REAL) == 4 ? 2 : 1)
    convolution_weight_gradient(const REAL* dy, const REAL* x, REAL* dw, const Sliding s) {
    __shared__ REAL parts[WARPS][ENTRIES][33];  // 33: no two threads of a warp meet in a memory bank
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int size = s.kernel_h * s.kernel_w, terms = s.inputs * size, groups = tiles(terms, ENTRIES * warps);
    const int entry = (blockIdx.x % groups * warps + warp) * ENTRIES;
    const int first = blockIdx.x / groups % tiles(s.outputs, OUTPUTS) * OUTPUTS;
    const int p = blockIdx.x / groups / tiles(s.outputs, OUTPUTS);
    const int top = (i64)s.rows * blockIdx.y / s.slices, bottom = (i64)s.rows * (blockIdx.y + 1) / s.slices;
    const i64 image = (i64)s.rows * s.columns * s.batch;
    dy += ((i64)p * s.outputs + first) * image;
    x += s.x_members > 1 ? (i64)p * s.inputs * s.height * s.width * s.batch : 0;
    REAL sum[OUTPUTS][ENTRIES] = {};
    for (int place = top * s.columns; entry < terms && place < bottom * s.columns; ++place) {
        const int u = place / s.columns * s.stride_h - s.padding_h, v = place % s.columns * s.stride_w - s.padding_w;
        int pixel[ENTRIES];  // what each entry sees from here, -1 outside
        int c = entry / size, i = entry % size / s.kernel_w, j = entry % s.kernel_w;
#pragma unroll
        for (int e = 0; e < ENTRIES; ++e) {
            const bool inside = c < s.inputs && u + i >= 0 && u + i < s.height && v + j >= 0 && v + j < s.width;
            pixel[e] = inside ? (c * s.height + u + i) * s.width + v + j : -1;
            if (++j == s.kernel_w) {
                j = 0;
                if (++i == s.kernel_h) i = 0, ++c;
            }
        }
        for (int n = lane; n < s.batch; n += 32) {
            REAL upstream[OUTPUTS];
#pragma unroll
            for (int o = 0; o < OUTPUTS; ++o)
                upstream[o] = first + o < s.outputs ? dy[o * image + (i64)place * s.batch + n] : (REAL)0;
#pragma unroll
            for (int e = 0; e < ENTRIES; ++e) {
                const REAL value = pixel[e] >= 0 ? x[(i64)pixel[e] * s.batch + n] : (REAL)0;
#pragma unroll
                for (int o = 0; o < OUTPUTS; ++o) sum[o][e] += upstream[o] * value;
            }
        }
    }
#pragma unroll
    for (int o = 0; o < OUTPUTS; ++o) {
#pragma unroll
        for (int e = 0; e < ENTRIES; ++e) parts[warp][e][lane] = sum[o][e];
        __syncthreads();
        if (lane < ENTRIES && entry + lane < terms && first + o < s.outputs) {
            REAL total = 0;
            for (int l = 0; l < 32; ++l) total += parts[warp][lane][l];
            const i64 member = (i64)blockIdx.y * s.population + p;
            dw[(member * s.outputs + first + o) * terms + entry + lane] = total;
        }
        __syncthreads();
    }
}

// ---- pooling ----------------------------------------------------------------------------------------------------

struct Pooling {
    int channels, height, width, window_h, window_w, batch, x_members;
};

// Where row blockIdx.x = (p, c, u, v) of y has its window in x: the upper left pixel, times the batch.
__device__ inline i64 window_of(const Pooling& s, int members) {
    const int columns = s.width / s.window_w, rows = s.height / s.window_h;
    const int v = blockIdx.x % columns, u = blockIdx.x / columns % rows, channel = blockIdx.x / (columns * rows);
    const i64 image = members == 1 ? channel % s.channels : channel;
    return ((image * s.height + u * s.window_h) * s.width + v * s.window_w) * s.batch;
}

#define EACH_PIXEL(offset) \
    (int a = 0; a < s.window_h; ++a) \
        for (i64 b = 0, offset = (i64)a * s.width * s.batch; b < s.window_w; ++b, offset += s.batch)

// Grid of all four: places (p, c, u, v) of y, parts of the batch.
KERNEL max_pool(const REAL* ALONE x, REAL* ALONE y, const Pooling s) {
    const i64 window = window_of(s, 0);
    for EACH_SAMPLE(n, s.batch) {
        REAL largest = x[window + n];
        for EACH_PIXEL(offset) {
            const REAL value = x[window + offset + n];
            if (value > largest || value != value) largest = value;
        }
        y[(i64)blockIdx.x * s.batch + n] = largest;
    }
}

KERNEL max_pool_backward(const REAL* ALONE dy, const REAL* ALONE x, const REAL* ALONE y, REAL* ALONE dx,
                         const Pooling s) {
    const i64 from = window_of(s, s.x_members), to = window_of(s, 0);
    const int places = s.channels * (s.height / s.window_h) * (s.width / s.window_w);  // of a member
    const i64 row = s.x_members == 1 ? blockIdx.x % places : blockIdx.x;
    for EACH_SAMPLE(n, s.batch) {
        const REAL largest = y[row * s.batch + n];
        bool found = false;
        for EACH_PIXEL(offset) {
            const REAL value = x[from + offset + n];
            const bool here = !found && (value == largest || value != value);
            dx[to + offset + n] = here ? dy[(i64)blockIdx.x * s.batch + n] : (REAL)0;
            found = found || here;
        }
    }
}

KERNEL average_pool(const REAL* x, REAL* y, const Pooling s) {
    const i64 window = window_of(s, 0);
    const int count = s.window_h * s.window_w;
    for EACH_SAMPLE(n, s.batch) {
        REAL sum = -0.0, unit = 1;  // added to the first, -0 gives the first, be that -0 or 0
        for EACH_PIXEL(offset) sum += x[window + offset + n];
        if (!(sum - sum == 0)) {  // it does not fit; the mean does
            while (unit * count > 1) unit /= 2;
            sum = -0.0;
            for EACH_PIXEL(offset) sum += x[window + offset + n] * unit;
        }
        y[(i64)blockIdx.x * s.batch + n] = sum / (count * unit);
    }
}

KERNEL average_pool_backward(const REAL* dy, REAL* dx, const Pooling s) {
    const i64 window = window_of(s, 0);
    for EACH_SAMPLE(n, s.batch) {
        const REAL share = dy[(i64)blockIdx.x * s.batch + n] / (s.window_h * s.window_w);
        for EACH_PIXEL(offset) dx[window + offset + n] = share;
    }
}

// ---- batch norm: a block has the row of a member and feature; grid: rows (P F) --------------------------------------

struct Rows {
    i64 features, rows_members, gamma_members, size;  // size: values of a row
};

__device__ inline i64 row_of(i64 members, i64 features) { return members == 1 ? blockIdx.x % features : blockIdx.x; }

struct Moments {
    REAL mean, residual, variance;  // the mean is the sum of two numbers
};

// a + b as its nearest number and the exact rest: Knuth's two-sum.
__device__ inline void pair(REAL a, REAL b, REAL& nearest, REAL& rest) {
    nearest = plus(a, b);
    const REAL part = minus(nearest, a);
    rest = plus(minus(a, minus(nearest, part)), minus(b, part));
}

// The middle one of three values of a row: hardly ever an outlier.
__device__ inline REAL middle(const REAL* x, i64 size) {
    const REAL a = x[0], b = x[size / 2], c = x[size - 1], low = a < b ? a : b, high = a < b ? b : a;
    return low > c ? low : high < c ? high : c;
}

// Of a row times `unit`, a power of two. The mean is a + mean(x - a), a a value of the row, and then corrected by the
// mean of what is left.
__device__ inline Moments moments(const REAL* x, i64 size, REAL unit) {
    Moments found;
    const REAL pivot = middle(x, size) * unit;
    REAL sum = 0, squares = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x) sum += x[i] * unit - pivot;
    const REAL centre = plus(pivot, block_sum(sum) / size);
    sum = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x) {
        const REAL deviation = x[i] * unit - centre;
        sum += deviation, squares += deviation * deviation;
    }
    const REAL shift = block_sum(sum) / size, variance = block_sum(squares) / size - shift * shift;
    pair(centre, shift, found.mean, found.residual);
    found.variance = variance < 0 ? (REAL)0 : variance;
    return found;
}

// x^ is 0 where 1/sqrt(variance + epsilon) is, though x - mean may be infinite: then 0 stands for the mean.
__device__ inline REAL centre_of(REAL mean, REAL inverse) { return inverse > 0 ? mean : mean - mean; }

// Where squares of deviations leave the range, all is done again with a power of two that keeps them in it.
KERNEL batch_norm(const REAL* rows, const REAL* gamma, const REAL* beta, REAL* y, REAL* mean, REAL* residual,
                  REAL* variance, REAL* inverse, REAL epsilon, const Rows s) {
    const i64 from = row_of(s.rows_members, s.features), own = row_of(s.gamma_members, s.features);
    const REAL* x = rows + from * s.size;
    Moments found = moments(x, s.size, 1);
    if (!(found.variance - found.variance == 0)) {  // the same for all threads
        const REAL unit = sizeof(REAL) == 4 ? 0x1p-100 : 0x1p-800;
        found = moments(x, s.size, unit);
        found.mean /= unit, found.residual /= unit, found.variance = found.variance / unit / unit;
    }
    const REAL row_inverse = 1 / sqrt(found.variance + epsilon), centre = centre_of(found.mean, row_inverse);
    const REAL scale = gamma[own] * row_inverse, shift = beta[own] - found.residual * scale;
    for (i64 i = threadIdx.x; i < s.size; i += blockDim.x)
        y[blockIdx.x * s.size + i] = (x[i] - centre) * scale + shift;
    if (threadIdx.x == 0 && (s.rows_members > 1 || blockIdx.x < s.features))
        mean[from] = found.mean, residual[from] = found.residual, variance[from] = found.variance,
        inverse[from] = row_inverse;
}

// Sums are taken of differences to one of the dy, as means are; the sum of x^ is 0.
KERNEL batch_norm_backward(const REAL* drows, const REAL* rows, const REAL* gamma, const REAL* mean,
                           const REAL* residual, const REAL* inverse, REAL* dx, REAL* dgamma, REAL* dbeta,
                           const Rows s) {
    const i64 from = row_of(s.rows_members, s.features), own = row_of(s.gamma_members, s.features);
    const REAL *x = rows + from * s.size, *dy = drows + blockIdx.x * s.size;
    const REAL row_inverse = inverse[from], centre = centre_of(mean[from], row_inverse);
    const REAL tail = residual[from] * row_inverse;
    const REAL pivot = middle(dy, s.size);
    REAL products = 0, sum = 0;
    for (i64 i = threadIdx.x; i < s.size; i += blockDim.x) {
        const REAL difference = dy[i] - pivot;
        products += difference * ((x[i] - centre) * row_inverse - tail), sum += difference;
    }
    products = block_sum(products), sum = block_sum(sum);
    const REAL share = products / s.size, slope = -row_inverse * share, scale = gamma[own] * row_inverse;
    REAL dmean, dresidual;
    pair(pivot, sum / s.size, dmean, dresidual);
    const REAL shift = tail * share - dresidual;
    for (i64 i = threadIdx.x; i < s.size; i += blockDim.x)
        dx[blockIdx.x * s.size + i] = ((dy[i] - dmean) + (x[i] - centre) * slope + shift) * scale;
    if (threadIdx.x == 0) dgamma[blockIdx.x] = products, dbeta[blockIdx.x] = s.size * pivot + sum;
}

// y = (rows - mean) scale + shift; mean, scale, shift: (P, F).
KERNEL normalise(const REAL* rows, const REAL* mean, const REAL* scale, const REAL* shift, REAL* y, const Rows s) {
    const REAL* x = rows + row_of(s.rows_members, s.features) * s.size;
    const REAL centre = mean[blockIdx.x], factor = scale[blockIdx.x], offset = shift[blockIdx.x];
    for (i64 i = threadIdx.x; i < s.size; i += blockDim.x)
        y[blockIdx.x * s.size + i] = (x[i] - centre) * factor + offset;
}

// What `normalise` takes, and 1/sqrt(variance + epsilon); all (P, F).
KERNEL normaliser(const REAL* gamma, const REAL* beta, const REAL* mean, const REAL* residual, const REAL* variance,
                  REAL* centre, REAL* scale, REAL* shift, REAL* inverse, REAL epsilon, i64 size) {
    for EACH(i, size) {
        const REAL row_inverse = 1 / sqrt(variance[i] + epsilon), factor = gamma[i] * row_inverse;
        centre[i] = centre_of(mean[i], row_inverse), scale[i] = factor, shift[i] = beta[i] - residual[i] * factor;
        inverse[i] = row_inverse;
    }
}

struct Running {
    REAL keep, twice, weight;  // 1 - share, 2 share; share, times the factor that makes a variance unbiased
};

// Rounded step by step: see Backend.running_statistics. Differences of halves are in range, those of means may not be.
KERNEL running_statistics(const REAL* old_mean, const REAL* old_residual, const REAL* old_variance,
                          const REAL* new_mean, const REAL* new_residual, const REAL* new_variance, REAL* mean,
                          REAL* residual, REAL* variance, const Running s, i64 size, i64 batch_size) {
    for EACH(i, size) {
        const i64 n = i % batch_size;
        const REAL step = plus(minus(new_mean[n] / 2, old_mean[i] / 2), minus(new_residual[n] / 2, old_residual[i] / 2));
        pair(old_mean[i], plus(old_residual[i], times(s.twice, step)), mean[i], residual[i]);
        variance[i] = plus(times(s.keep, old_variance[i]), times(s.weight, new_variance[n]));
    }
}

// ---- loss: a block has a member; grid: members ------------------------------------------------------------------------

KERNEL cross_entropy(const REAL* logits, const i64* labels, const REAL* a, REAL* log_q, REAL* values, int classes,
                     int batch) {
    const REAL* x = logits + (i64)blockIdx.x * classes * batch;
    REAL *y = log_q + (i64)blockIdx.x * classes * batch, loss = 0;
    for (int n = threadIdx.x; n < batch; n += blockDim.x) {
        REAL largest = x[n], sum = 0;
        for (int k = 1; k < classes; ++k) largest = x[k * batch + n] > largest ? x[k * batch + n] : largest;
        for (int k = 0; k < classes; ++k) sum += exp(x[k * batch + n] - largest);
        const REAL logarithm = log(sum);
        for (int k = 0; k < classes; ++k) y[k * batch + n] = x[k * batch + n] - largest - logarithm;
        const bool known = labels[n] >= 0 && labels[n] < classes;
        loss -= known ? y[labels[n] * batch + n] * a[n] : (REAL)nan("");
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) values[blockIdx.x] = loss;
}

// total += values factor, in float64.
KERNEL accumulate(double* total, const REAL* values, double factor, i64 size) {
    for EACH(i, size) total[i] = plus(total[i], times((double)values[i], factor));
}

// Grid: rows (P K), parts of the batch.
KERNEL cross_entropy_backward(const REAL* log_q, const i64* labels, const REAL* a, REAL* dlogits, int classes,
                              int batch) {
    for EACH_SAMPLE(n, batch) {
        const i64 i = (i64)blockIdx.x * batch + n;
        const REAL hit = labels[n] == blockIdx.x % classes ? 1 : 0;
        dlogits[i] = a[n] * (exp(log_q[i]) - hit);
    }
}

// How many of `count` labels are the largest of logits (P, K, B), a tie: the smaller; -1 where one is not finite,
// -2 where a label is no class. Samples n mod G are counted by thread: correct (P, G) for blocks of G threads.
KERNEL count_correct(const REAL* logits, const i64* labels, i64* correct, int classes, int batch, int count) {
    const REAL* x = logits + (i64)blockIdx.x * classes * batch;
    int hits = 0, wrong = 0, unknown = 0;
    for (int n = threadIdx.x; n < count; n += blockDim.x) {
        int best = 0;
        if (labels[n] < 0 || labels[n] >= classes) unknown = 1;
        for (int k = 0; k < classes; ++k) {
            const REAL value = x[k * batch + n];
            if (value - value != 0) wrong = 1;
            if (value > x[best * batch + n]) best = k;
        }
        hits += best == labels[n];
    }
    correct[(i64)blockIdx.x * blockDim.x + threadIdx.x] = unknown ? -2 : wrong ? -1 : hits;
}

// ---- optimiser: all parameters of all members in one launch; grid: elements, arrays ------------------------------------

#define ARRAYS 64

struct Parameters {
    REAL* parameter[ARRAYS];
    const REAL* gradient[ARRAYS];
    REAL *first[ARRAYS], *second[ARRAYS];
    i64 size[ARRAYS];
};

// constants: step size, b1, 1 - b1, b2, 1 - b2, second correction, epsilon; the same bits as Backend.adam_update.
KERNEL adam(const Parameters a, const double* constants) {
    const REAL step = constants[0], keep1 = constants[1], new1 = constants[2], keep2 = constants[3],
               new2 = constants[4], correction = constants[5], epsilon = constants[6];
    const int which = blockIdx.y;
    for EACH(i, a.size[which]) {
        const REAL g = a.gradient[which][i];
        const REAL m = plus(times(a.first[which][i], keep1), times(new1, g));
        const REAL v = plus(times(a.second[which][i], keep2), times(times(new2, g), g));
        a.first[which][i] = m, a.second[which][i] = v;
        const REAL denominator = plus(times(sqrt(v), correction), epsilon);
        a.parameter[which][i] = minus(a.parameter[which][i], times(step, m) / denominator);
    }
}

// w clamped to [-limit, limit]; NaN stays NaN.
KERNEL clip(REAL* w, REAL limit, i64 size) {
    for EACH(i, size) w[i] = w[i] > limit ? limit : w[i] < -limit ? -limit : w[i];
}

// What changes from step to step stands in the device's memory, where a recorded step finds it.
KERNEL set_epoch(u32* epoch, u32 value) { *epoch = value; }

struct Constants {
    double value[7];
};

KERNEL set_constants(double* constants, const Constants values) { constants[threadIdx.x] = values.value[threadIdx.x]; }
