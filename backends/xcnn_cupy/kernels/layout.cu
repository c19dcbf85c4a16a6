// Arrays of up to four axes, brought into dense memory of another type and order, wherever their cells lie.

const int THREADS = 256;
const int EACH = 4;  // cells of a chunk for each thread, which reads all of them before it writes any
const int CHUNK = THREADS * EACH;
const int TILE = 32;  // in each direction: a tile has as many cells as a chunk

// One array. Axes are those of the target, the last one fastest in its memory; strides are in cells.
//
// If `turned`, the cells along axis 2 are those that lie beside each other in the source. Then tiles over axes 2 and
// 3 are turned in shared memory, so that both sides go along memory. Else chunks are cells in the target's order.
struct Copy {
    const void* source;
    void* target;
    int sizes[4], source_strides[4], target_strides[4];
    int turned, first_chunk;
};
struct Copies {
    Copy copy[56];
    int count, chunks;
};

// A number in another type; in its own it stays as it is, bit for bit.
template <typename From, typename To> struct As {
    __device__ static To of(From value) { return (To)(typename Sum<From>::type)value; }
};
template <typename T> struct As<T, T> {
    __device__ static T of(T value) { return value; }
};

// Where the source has the target's cell `at`.
__device__ inline int place(const Copy& copy, int at) {
    int offset = 0;
#pragma unroll
    for (int axis = 3; axis >= 0 && at > 0; axis--) {
        int slower = at / copy.sizes[axis];
        offset += (at - slower * copy.sizes[axis]) * copy.source_strides[axis];
        at = slower;
    }
    return offset;
}

template <typename From, typename To> __device__ void move(const Copy& copy, int chunk) {
    const From* source = (const From*)copy.source;
    To* target = (To*)copy.target;
    int start = chunk * CHUNK + threadIdx.x, cells = copy.sizes[0] * copy.sizes[1] * copy.sizes[2] * copy.sizes[3];
    From values[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (start + k * THREADS < cells) values[k] = source[place(copy, start + k * THREADS)];
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (start + k * THREADS < cells) target[start + k * THREADS] = As<From, To>::of(values[k]);
}

template <typename From, typename To> __device__ void turn(const Copy& copy, int chunk) {
    __shared__ To tile[TILE][TILE + 1];  // one more, so that neither rows nor columns meet in one bank
    int high = (copy.sizes[2] + TILE - 1) / TILE, wide = (copy.sizes[3] + TILE - 1) / TILE;
    int row = chunk / wide % high * TILE, column = chunk % wide * TILE;
    int first = chunk / wide / high / copy.sizes[1], second = chunk / wide / high % copy.sizes[1];
    const From* source = (const From*)copy.source + first * copy.source_strides[0] + second * copy.source_strides[1];
    To* target = (To*)copy.target + first * copy.target_strides[0] + second * copy.target_strides[1];
    int near = threadIdx.x % TILE, far = threadIdx.x / TILE;
    __syncthreads();  // the tile before this one has been written
#pragma unroll
    for (int k = 0; k < TILE; k += THREADS / TILE) {
        int i = row + near, j = column + far + k;
        if (i < copy.sizes[2] && j < copy.sizes[3])
            tile[far + k][near] = As<From, To>::of(source[i * copy.source_strides[2] + j * copy.source_strides[3]]);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < TILE; k += THREADS / TILE) {
        int i = row + far + k, j = column + near;
        if (i < copy.sizes[2] && j < copy.sizes[3])
            target[i * copy.target_strides[2] + j * copy.target_strides[3]] = tile[near][far + k];
    }
}

// Every array of the table. Blocks share out the chunks of all of them.
template <typename From, typename To> __global__ void __launch_bounds__(256) convert(Copies copies) {
    for (int chunk = blockIdx.x, n = 0; chunk < copies.chunks; chunk += gridDim.x) {
        while (n + 1 < copies.count && copies.copy[n + 1].first_chunk <= chunk) n++;
        const Copy& copy = copies.copy[n];
        if (copy.turned) turn<From, To>(copy, chunk - copy.first_chunk);
        else move<From, To>(copy, chunk - copy.first_chunk);
    }
}
