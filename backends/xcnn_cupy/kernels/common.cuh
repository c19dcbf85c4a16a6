// What several kernels need: bfloat16, packs, the type of sums, and sums over the threads of a block in a fixed order.

struct bfloat16 {  // the upper half of a float, rounded to nearest, ties to even
    unsigned short bits;
    bfloat16() = default;
    __device__ bfloat16(float value) {
        unsigned whole = __float_as_uint(value);
        bool is_nan = (whole & 0x7fffffff) > 0x7f800000;
        bits = is_nan ? 0x7fff : (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
    }
    __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

// Cells that are read at once.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T cell[V]; };

// Pack `at` of an array.
template <int V, typename T> __device__ const Pack<T, V>& pack(const T* x, int at) {
    return ((const Pack<T, V>*)x)[at];
}
template <int V, typename T> __device__ Pack<T, V>& pack(T* x, int at) { return ((Pack<T, V>*)x)[at]; }

template <typename T> struct Sum { typedef float type; };
template <> struct Sum<double> { typedef double type; };
// Sum<T>::type is what numbers of type T are added up in.

__device__ inline bool is_finite(double value) { return value - value == 0; }

// The sum of `value` over all threads of a block of at most 1024, given to each; every thread must call it.
template <typename S> __device__ S block_sum(S value) {
    __shared__ S parts[32];
    for (int far = 16; far > 0; far /= 2) value += __shfl_xor_sync(0xffffffff, value, far);
    int warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    __syncthreads();  // the sums of a call before this one have been read
    if (threadIdx.x % 32 == 0) parts[warp] = value;
    __syncthreads();
    S total = 0;
    for (int n = 0; n < warps; n++) total += parts[n];
    return total;
}

// A sum of squares in double precision, added up over a block. Where those of doubles overflow it is minus the sum of the
// squares of x 2^-600.
template <typename T> struct Squares {
    double sum = 0;
    __device__ void add(T x) { sum += (double)x * x; }
    __device__ double of_block() const { return block_sum(sum); }
};
template <> struct Squares<double> {
    double sum = 0, small = 0;
    __device__ void add(double x) {
        double less = x * 0x1p-600;
        sum += x * x, small += less * less;
    }
    __device__ double of_block() const {
        double all = block_sum(sum), less = block_sum(small);
        return is_finite(all) ? all : -less;
    }
};

// The norm, from such sums of several blocks; given to each thread.
__device__ inline double norm_of(const double* squares, int parts) {
    double sum = 0, small = 0;
    for (int n = threadIdx.x; n < parts; n += blockDim.x) {
        double part = squares[n];
        sum += part < 0 ? __uint_as_float(0x7f800000) : part;
        small += part < 0 ? -part : part * 0x1p-600 * 0x1p-600;
    }
    sum = block_sum(sum), small = block_sum(small);
    return is_finite(sum) ? sqrt(sum) : sqrt(small) * 0x1p600;
}
