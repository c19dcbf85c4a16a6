// CUDA's words for a C++ compiler on the host: the threads of a block run in turns, and the blocks one after another.
//
// A thread runs until it waits for others, at __syncthreads() or in a shuffle. Backwards, threads and blocks are taken in
// reverse: a kernel that misses a barrier gives another result then.

#include <cmath>
#include <csetjmp>
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
    ucontext_t context;  // where it begins; from then on it is left and entered by jumps, which ask nothing of the system
    jmp_buf place;
    bool begun = false;
    std::vector<char> stack;
};
struct Thread {
    State state;
    unsigned index;
    Fiber* fiber;
    char slot[16];
};
static std::vector<Thread> threads;
static std::vector<Fiber*> fibers;  // kept from block to block
static jmp_buf scheduler;
static Thread* current;
static Fiber* running;
static unsigned started;  // threads of this block
static bool backwards;
static void (*body)(void*);
static void* body_arguments;

static Thread& numbered(unsigned n) { return threads[backwards ? threads.size() - 1 - n : n]; }
static void go_on_with(Thread& thread) {
    current = &thread;
    threadIdx = {thread.index % blockDim.x, thread.index / blockDim.x % blockDim.y,
                 thread.index / (blockDim.x * blockDim.y)};
}
static void leave(Fiber* fiber) {
    if (_setjmp(fiber->place) == 0) _longjmp(scheduler, 1);
}
static void enter(Fiber* fiber) {
    if (_setjmp(scheduler) != 0) return;
    if (fiber->begun) _longjmp(fiber->place, 1);
    fiber->begun = true;
    setcontext(&fiber->context);
}
static void wait_as(State state) {
    current->state = state;
    leave(current->fiber);
}
// A fiber runs thread after thread, until one of them waits: then it is that thread's, and another goes on with the rest.
// When they are done, it waits for those of another block.
static void entry() {
    Fiber* mine = running;
    for (;;) {
        while (started < threads.size()) {
            Thread& thread = numbered(started++);
            thread.fiber = mine;
            go_on_with(thread);
            body(body_arguments);
            thread.state = done;
        }
        leave(mine);
    }
}
static Fiber* numbered_fiber(unsigned n) {
    if (n == fibers.size()) {
        Fiber* fiber = new Fiber;
        fibers.push_back(fiber);
        fiber->stack.resize(1 << 16);
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack.data();
        fiber->context.uc_stack.ss_size = fiber->stack.size();
        fiber->context.uc_link = nullptr;
        makecontext(&fiber->context, entry, 0);
    }
    return fibers[n];
}

// Let go on all threads of a block, or of a warp, that wait in this state once nobody of them is on the way there.
static bool release(State state, unsigned warp, bool whole_block) {
    bool any = false;
    for (Thread& thread : threads) {
        if (!whole_block && thread.index / 32 != warp) continue;
        if (thread.state == state) any = true;
        else if (thread.state != done) return false;
    }
    if (!any) return false;
    for (Thread& thread : threads)
        if ((whole_block || thread.index / 32 == warp) && thread.state == state) thread.state = ready;
    return true;
}
static void run_block() {
    started = 0;
    for (Thread& thread : threads) thread.state = ready;
    for (unsigned n = 0; started < threads.size(); n++) {
        running = numbered_fiber(n);
        enter(running);
    }
    for (;;) {
        bool freed = false, all_done = true;
        for (unsigned warp = 0; warp <= (threads.size() - 1) / 32; warp++)
            freed = release(at_shuffle, warp, false) || freed;
        if (!freed) freed = release(at_barrier, 0, true);
        for (Thread& thread : threads) all_done = all_done && thread.state == done;
        if (all_done) return;
        if (!freed) {
            std::fprintf(stderr, "threads of one block wait at different places\n");
            std::abort();
        }
        for (unsigned n = 0; n < threads.size(); n++) {
            Thread& thread = numbered(n);
            if (thread.state != ready) continue;
            go_on_with(thread);
            enter(thread.fiber);
        }
    }
}

template <typename... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<P*>(arguments[I])...);
}
template <typename... P>
void run(void (*kernel)(P...), const unsigned* grid, const unsigned* block, bool reverse, void** arguments) {
    struct Launch {
        void (*kernel)(P...);
        void** arguments;
    } launch = {kernel, arguments};
    body = [](void* raw) {
        Launch* mine = static_cast<Launch*>(raw);
        call(mine->kernel, mine->arguments, std::index_sequence_for<P...>());
    };
    body_arguments = &launch;
    backwards = reverse;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    threads.resize(block[0] * block[1] * block[2]);
    for (unsigned n = 0; n < threads.size(); n++) threads[n].index = n;
    unsigned blocks = grid[0] * grid[1] * grid[2];
    for (unsigned n = 0; n < blocks; n++) {
        unsigned at = backwards ? blocks - 1 - n : n;
        blockIdx = {at % grid[0], at / grid[0] % grid[1], at / (grid[0] * grid[1])};
        run_block();
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
    host::Thread* mine = host::current;
    std::memcpy(mine->slot, &value, sizeof(T));
    __syncwarp();
    unsigned from = mine->index / 32 * 32 + lane;
    T got = value;  // a lane that is not there gives one's own value
    if (lane < 32 && from < host::threads.size()) std::memcpy(&got, host::threads[from].slot, sizeof(T));
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
