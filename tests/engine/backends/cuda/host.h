// CUDA's names for a host compiler, so that it can build kernels.cu: a grid is a loop over blocks.
//
// Threads of a block run one after another, each until it meets __syncthreads(); there the next one goes on. So
// every barrier is where it is on a GPU, and a missing one shows: a thread reads what another has not written yet. They can
// run in either order. A kernel without barriers is a plain loop.

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

using std::exp;
using std::log;
using std::sqrt;

struct Place {
    unsigned x, y, z;
};
static Place gridDim, blockDim, blockIdx, threadIdx;

template <class T>
T min(T a, T b) { return b < a ? b : a; }

template <class To, class From>
To bits_as(From value) {
    To result;
    static_assert(sizeof result == sizeof value, "bits of another size");
    std::memcpy(&result, &value, sizeof value);
    return result;
}

// Rounded one by one: the file is compiled with -ffp-contract=off.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline float __int2float_rn(int a) { return (float)a; }
static inline float __uint2float_rn(unsigned a) { return (float)a; }
static inline unsigned __float_as_uint(float a) { return bits_as<unsigned>(a); }
static inline float __uint_as_float(unsigned a) { return bits_as<float>(a); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (std::uint64_t)a * b >> 32; }

// ---- threads of a block -------------------------------------------------------------------------------------

struct Resting {
    jmp_buf place;
};

static const std::size_t STACK = 64 << 10;
static ucontext_t entry;
static jmp_buf resting;               // where a thread goes back to when it rests
static std::vector<Resting> places;   // where each thread goes on
static std::vector<std::vector<char>> stacks;
static std::vector<char> finished;
static std::function<void()> body;
static unsigned current;
static bool in_fiber, met_barrier, barrier_missed;

static void __syncthreads() {
    met_barrier = true;
    if (in_fiber) {
        if (_setjmp(places[current].place) == 0) _longjmp(resting, 1);
    } else
        barrier_missed = true;  // the first block met none, or this thread would be a fiber
}

static void fiber_main() {
    body();
    finished[current] = 1;
    _longjmp(resting, 1);
}

// A thread gets its stack by makecontext; from then on jumps are enough, which ask nothing of the system.
static void run(unsigned thread, bool first) {
    current = thread, threadIdx = {thread, 0, 0}, in_fiber = true;
    if (_setjmp(resting) == 0) {
        if (!first) _longjmp(places[thread].place, 1);
        getcontext(&entry);
        entry.uc_stack.ss_sp = stacks[thread].data();
        entry.uc_stack.ss_size = STACK;
        makecontext(&entry, fiber_main, 0);
        finished[thread] = 0;
        setcontext(&entry);
    }
    in_fiber = false;
}

// Run all threads of a block from barrier to barrier; false if some end where others wait.
static bool run_block(bool backwards) {
    const unsigned count = blockDim.x;
    while (stacks.size() < count) stacks.emplace_back(STACK);
    places.resize(stacks.size()), finished.resize(stacks.size());
    for (bool first = true;; first = false) {
        unsigned ended = 0;
        for (unsigned i = 0; i < count; ++i) {
            const unsigned thread = backwards ? count - 1 - i : i;
            run(thread, first);
            ended += finished[thread];
        }
        if (ended == count) return true;
        if (ended != 0) return false;
    }
}

// Whether a kernel has barriers is known after the first block; without any, the others are plain loops.
static bool run_grid(bool backwards) {
    bool barriers = true, known = false;
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    for (unsigned i = 0; i < blocks; ++i) {
        const unsigned block = backwards ? blocks - 1 - i : i;
        blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
        if (barriers && !run_block(backwards)) return false;
        for (unsigned t = 0; !barriers && t < blockDim.x; ++t) {
            threadIdx = {backwards ? blockDim.x - 1 - t : t, 0, 0};
            body();
        }
        if (!known) barriers = met_barrier, known = true;
    }
    return !barrier_missed;
}

// ---- launches through pointers to the arguments, as cuLaunchKernel takes them ---------------------------------

template <class... A, std::size_t... I>
bool launch(void (*kernel)(A...), void** arguments, std::index_sequence<I...>, const unsigned* sizes, int backwards) {
    gridDim = {sizes[0], sizes[1], sizes[2]}, blockDim = {sizes[3], 1, 1};
    met_barrier = barrier_missed = false;
    body = [=] { kernel(*static_cast<std::decay_t<A>*>(arguments[I])...); };
    return run_grid(backwards);
}

template <class... A>
constexpr std::index_sequence_for<A...> count_of(void (*)(A...)) {
    return {};
}

template <class T>
std::string kind() {
    using Plain = std::remove_cv_t<T>;
    if constexpr (std::is_pointer_v<Plain>) {
        using Target = std::remove_pointer_t<Plain>;
        return (std::is_const_v<Target> ? "read " : "write ") + kind<std::remove_cv_t<Target>>();
    } else if constexpr (std::is_floating_point_v<Plain>) {
        return "float" + std::to_string(8 * sizeof(Plain));
    } else if constexpr (std::is_integral_v<Plain>) {
        return (std::is_signed_v<Plain> ? "int" : "uint") + std::to_string(8 * sizeof(Plain));
    } else {
        return "struct " + std::to_string(sizeof(Plain));
    }
}

template <class... A>
std::string kinds(void (*)(A...)) {
    std::string all;
    ((all += kind<A>() + ","), ...);
    return all;
}

// What is hidden is a library's own: shared memory, a static variable here, is not that of another one.
#define VISIBLE extern "C" __attribute__((visibility("default")))

// 0, or 1 where some threads of a block end and others wait for them. `types` writes what the arguments are.
#define ENTRY(name)                                                                                    \
    VISIBLE int launch_##name(void** arguments, const unsigned* sizes, int backwards) {             \
        return !launch(name, arguments, count_of(name), sizes, backwards);                             \
    }                                                                                                  \
    VISIBLE const char* types_##name() {                                                            \
        static const std::string all = kinds(name);                                                    \
        return all.c_str();                                                                            \
    }

