// CUDA's words for a C++ compiler on the host: each thread of a block is a fiber, and the blocks run one after another.
//
// A fiber runs until it waits for others, at __syncthreads() or in a shuffle. `backwards` takes fibers and blocks in
// reverse: a kernel that misses a barrier gives another result then.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>
#include <ucontext.h>

using std::isfinite;
using std::isinf;
using std::isnan;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __launch_bounds__(n)

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host {
enum State { ready, at_barrier, at_shuffle, done };
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    State state;
    unsigned index;
    char slot[16];
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static Fiber* current;
static void (*body)(void*);
static void* body_arguments;

static void wait_as(State state) {
    Fiber* mine = current;
    mine->state = state;
    swapcontext(&mine->context, &scheduler);
}
static void entry() {
    body(body_arguments);
    wait_as(done);
}
static unsigned warp_of(const Fiber& fiber) { return fiber.index / 32; }

// Let go on all fibers of a block, or of a warp, that wait in this state once nobody of them is on the way there.
static bool release(State state, unsigned warp, bool whole_block) {
    bool any = false;
    for (Fiber& fiber : fibers) {
        if (!whole_block && warp_of(fiber) != warp) continue;
        if (fiber.state == state) any = true;
        else if (fiber.state != done) return false;
    }
    if (!any) return false;
    for (Fiber& fiber : fibers)
        if ((whole_block || warp_of(fiber) == warp) && fiber.state == state) fiber.state = ready;
    return true;
}
static void run_block(bool backwards) {
    unsigned count = fibers.size();
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        fiber.state = ready;
        makecontext(&fiber.context, entry, 0);
    }
    for (;;) {
        bool ran = false, all_done = true;
        for (unsigned n = 0; n < count; n++) {
            Fiber& fiber = fibers[backwards ? count - 1 - n : n];
            if (fiber.state == ready) {
                ran = true;
                current = &fiber;
                threadIdx = {fiber.index % blockDim.x, fiber.index / blockDim.x % blockDim.y,
                             fiber.index / (blockDim.x * blockDim.y)};
                swapcontext(&scheduler, &fiber.context);
            }
            all_done = all_done && fiber.state == done;
        }
        if (all_done) return;
        bool freed = false;
        for (unsigned warp = 0; warp <= (count - 1) / 32; warp++) freed = release(at_shuffle, warp, false) || freed;
        if (!freed) freed = release(at_barrier, 0, true);
        if (!freed && !ran) {
            std::fprintf(stderr, "threads of one block wait at different places\n");
            std::abort();
        }
    }
}

template <typename... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<P*>(arguments[I])...);
}
template <typename... P>
void run(void (*kernel)(P...), const unsigned* grid, const unsigned* block, bool backwards, void** arguments) {
    struct Launch {
        void (*kernel)(P...);
        void** arguments;
    } launch = {kernel, arguments};
    body = [](void* raw) {
        Launch* mine = static_cast<Launch*>(raw);
        call(mine->kernel, mine->arguments, std::index_sequence_for<P...>());
    };
    body_arguments = &launch;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    fibers.resize(block[0] * block[1] * block[2]);
    for (unsigned n = 0; n < fibers.size(); n++) {
        fibers[n].index = n;
        fibers[n].stack.resize(1 << 16);
    }
    unsigned blocks = grid[0] * grid[1] * grid[2];
    for (unsigned n = 0; n < blocks; n++) {
        unsigned at = backwards ? blocks - 1 - n : n;
        blockIdx = {at % grid[0], at / grid[0] % grid[1], at / (grid[0] * grid[1])};
        run_block(backwards);
    }
}
}  // namespace host

static void __syncthreads() {
    host::wait_as(host::at_barrier);
}
static void __syncwarp(unsigned = 0xffffffff) {
    host::wait_as(host::at_shuffle);
}
template <typename T> T shuffled(T value, unsigned lane) {
    static_assert(sizeof(T) <= 16, "a shuffled value is small");
    host::Fiber* mine = host::current;
    std::memcpy(mine->slot, &value, sizeof(T));
    __syncwarp();
    unsigned from = mine->index / 32 * 32 + lane;
    T got = value;  // a lane that is not there gives one's own value
    if (lane < 32 && from < host::fibers.size()) std::memcpy(&got, host::fibers[from].slot, sizeof(T));
    __syncwarp();
    return got;
}
template <typename T> T __shfl_sync(unsigned, T value, int lane) { return shuffled(value, lane); }
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return shuffled(value, (host::current->index % 32) ^ mask);
}
template <typename T> T __shfl_down_sync(unsigned, T value, int far) {
    return shuffled(value, host::current->index % 32 + far);
}

static unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
static float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }

struct float16 {
    unsigned short bits;
    float16() = default;
    float16(float value) {  // through the exponent: an addition rounds to nearest, ties to even
        unsigned whole = __float_as_uint(value), sign = whole >> 16 & 0x8000, size = whole & 0x7fffffff;
        if (size > 0x7f800000) bits = sign | 0x7fff;
        else if (size >= 0x477ff000) bits = sign | 0x7c00;
        else if (size < 0x38800000) bits = sign | (__float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000);
        else bits = sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    }
    operator float() const {
        unsigned sign = (unsigned)(bits & 0x8000) << 16, size = bits & 0x7fff;
        if (size >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | (size & 0x3ff) << 13);
        if (size < 0x400) return (sign ? -1 : 1) * (size * 0x1p-24f);
        return __uint_as_float(sign | (size + 0x1c000) << 13);
    }
};
