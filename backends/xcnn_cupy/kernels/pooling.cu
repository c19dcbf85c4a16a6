// Pooling over windows, as in xcnn/reference.py, and the mean of each image.
//
// Memory is seen as outer x height x width x inner packs of V cells, the last axis fastest: as images are indexed,
// outer counts all their channels, and inner is 1; with the channels last, outer counts images, and inner their packs
// of channels.

const int THREADS = 256;  // of each block

// Along one of an image's axes: its cells, the windows, cells of a window, cells from one window to the next, and
// cells of padding before the image.
struct Axis {
    int cells, windows, size, stride, before;
    // The taps of a window that meet the image are first_tap(n), ... up to end_tap(n); it begins at start(n).
    __device__ int start(int window) const { return window * stride - before; }
    __device__ int first_tap(int window) const { return max(-start(window), 0); }
    __device__ int end_tap(int window) const { return min(size, cells - start(window)); }
    __device__ int first_inside(int window) const { return first_tap(window) < size ? first_tap(window) : 0; }
    // The windows that meet a cell are last_window(cell), ... down to first_window(cell).
    __device__ int last_window(int cell) const { return min((cell + before) / stride, windows - 1); }
    __device__ int first_window(int cell) const {
        int missed = cell + before - size;  // a window that begins here, or before, ends before the cell
        return missed < 0 ? 0 : missed / stride + 1;
    }
};

struct Pool {
    Axis rows, columns;
    int outer, inner;
};

// One place of outer x high x wide x inner, counted in the order of memory.
struct Place {
    int image, row, column, pack;
    __device__ Place(int at, int high, int wide, int inner) {
        pack = at % inner, at /= inner;
        column = at % wide, at /= wide;
        row = at % high, image = at / high;
    }
};

// work(number, tap) for the cells of a window that lie in the image, row by row.
template <typename Work> __device__ void each_cell(const Pool& pool, const Place& window, Work work) {
    int top = pool.rows.start(window.row), left = pool.columns.start(window.column);
    int end = pool.rows.end_tap(window.row), right = pool.columns.end_tap(window.column);
    for (int i = pool.rows.first_tap(window.row); i < end; i++)
        for (int j = pool.columns.first_tap(window.column); j < right; j++) {
            int row = window.image * pool.rows.cells + top + i;
            work((row * pool.columns.cells + left + j) * pool.inner + window.pack, i * pool.columns.size + j);
        }
}

// work(number, tap) for the windows that meet a cell, in the order of the tap that does.
template <typename Work> __device__ void each_window(const Pool& pool, const Place& cell, Work work) {
    int first = pool.rows.first_window(cell.row), left = pool.columns.first_window(cell.column);
    for (int p = pool.rows.last_window(cell.row); p >= first; p--)
        for (int q = pool.columns.last_window(cell.column); q >= left; q--) {
            int i = cell.row - pool.rows.start(p), j = cell.column - pool.columns.start(q);
            int row = cell.image * pool.rows.windows + p;
            work((row * pool.columns.windows + q) * pool.inner + cell.pack, i * pool.columns.size + j);
        }
}

// Sums rounded to their type.
template <typename T, int V, typename S> __device__ Pack<T, V> rounded(const Pack<S, V>& sums) {
    Pack<T, V> cells;
#pragma unroll
    for (int k = 0; k < V; k++) cells.cell[k] = (T)sums.cell[k];
    return cells;
}

// y = the largest cell of each window, and which = the number of its tap, row by row: a cell takes over where it is
// larger than all before it, or the first NaN. It begins with minus infinity and the first tap within the image.
template <typename T, int V, typename Tap>
__global__ void __launch_bounds__(256) max_pool(const T* __restrict__ x, Pool pool, T* __restrict__ y,
                                                Tap* __restrict__ which) {
    typedef typename Sum<T>::type S;
    int size = pool.outer * pool.rows.windows * pool.columns.windows * pool.inner;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < size; at += gridDim.x * THREADS) {
        Place window(at, pool.rows.windows, pool.columns.windows, pool.inner);
        int first = pool.rows.first_inside(window.row) * pool.columns.size + pool.columns.first_inside(window.column);
        Pack<T, V> largest;
        Pack<Tap, V> taps;
#pragma unroll
        for (int k = 0; k < V; k++) largest.cell[k] = (T)-__uint_as_float(0x7f800000), taps.cell[k] = first;
        each_cell(pool, window, [&](int number, int tap) {
            Pack<T, V> here = pack<V>(x, number);
#pragma unroll
            for (int k = 0; k < V; k++) {
                S cell = here.cell[k], before = largest.cell[k];
                bool stays = cell <= before || before != before;
                if (!stays) largest.cell[k] = here.cell[k], taps.cell[k] = tap;
            }
        });
        pack<V>(y, at) = largest;
        pack<V>(which, at) = taps;
    }
}

// dx = the sum of dy over the windows that have chosen the cell.
template <typename T, int V, typename Tap>
__global__ void __launch_bounds__(256) max_pool_adjoint(const T* __restrict__ dy, const Tap* __restrict__ which,
                                                        Pool pool, T* __restrict__ dx) {
    typedef typename Sum<T>::type S;
    int size = pool.outer * pool.rows.cells * pool.columns.cells * pool.inner;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < size; at += gridDim.x * THREADS) {
        Pack<S, V> sums = {};
        each_window(pool, Place(at, pool.rows.cells, pool.columns.cells, pool.inner), [&](int number, int tap) {
            Pack<T, V> slope = pack<V>(dy, number);
            Pack<Tap, V> taps = pack<V>(which, number);
#pragma unroll
            for (int k = 0; k < V; k++) sums.cell[k] += taps.cell[k] == (Tap)tap ? (S)slope.cell[k] : 0;
        });
        pack<V>(dx, at) = rounded<T>(sums);
    }
}

// y = the sum of each window.
template <typename T, int V>
__global__ void __launch_bounds__(256) sum_pool(const T* __restrict__ x, Pool pool, T* __restrict__ y) {
    typedef typename Sum<T>::type S;
    int size = pool.outer * pool.rows.windows * pool.columns.windows * pool.inner;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < size; at += gridDim.x * THREADS) {
        Pack<S, V> sums = {};
        each_cell(pool, Place(at, pool.rows.windows, pool.columns.windows, pool.inner), [&](int number, int) {
            Pack<T, V> here = pack<V>(x, number);
#pragma unroll
            for (int k = 0; k < V; k++) sums.cell[k] += (S)here.cell[k];
        });
        pack<V>(y, at) = rounded<T>(sums);
    }
}

// dx = the sum of dy over the windows that meet the cell.
template <typename T, int V>
__global__ void __launch_bounds__(256) sum_pool_adjoint(const T* __restrict__ dy, Pool pool, T* __restrict__ dx) {
    typedef typename Sum<T>::type S;
    int size = pool.outer * pool.rows.cells * pool.columns.cells * pool.inner;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < size; at += gridDim.x * THREADS) {
        Pack<S, V> sums = {};
        each_window(pool, Place(at, pool.rows.cells, pool.columns.cells, pool.inner), [&](int number, int) {
            Pack<T, V> slope = pack<V>(dy, number);
#pragma unroll
            for (int k = 0; k < V; k++) sums.cell[k] += (S)slope.cell[k];
        });
        pack<V>(dx, at) = rounded<T>(sums);
    }
}

// y[r] = the mean of row r of (rows, packs): images as they are indexed. A warp sees to a row.
template <typename T, int V>
__global__ void __launch_bounds__(256) mean_of_rows(const T* __restrict__ x, int rows, int packs, T* __restrict__ y) {
    typedef typename Sum<T>::type S;
    const int warps = THREADS / 32;
    for (int row = blockIdx.x * warps + threadIdx.x / 32; row < rows; row += gridDim.x * warps) {
        S sum = 0;
        for (int n = threadIdx.x % 32; n < packs; n += 32) {
            Pack<T, V> here = pack<V>(x, row * packs + n);
#pragma unroll
            for (int k = 0; k < V; k++) sum += (S)here.cell[k];
        }
        for (int far = 16; far > 0; far /= 2) sum += __shfl_xor_sync(0xffffffff, sum, far);
        if (threadIdx.x % 32 == 0) y[row] = (T)(sum / (packs * V));
    }
}

// y[n][c] = the mean over rows of (images, rows, packs): the channels last. A block sees to 32 packs of an image at a
// time.
template <typename T, int V>
__global__ void __launch_bounds__(256) mean_of_columns(const T* __restrict__ x, int images, int rows, int packs,
                                                       T* __restrict__ y) {
    typedef typename Sum<T>::type S;
    __shared__ Pack<S, V> all[THREADS];
    int column = blockIdx.x * 32 + threadIdx.x % 32;
    for (int image = blockIdx.y; image < images; image += gridDim.y) {
        Pack<S, V> sums = {};
        for (int row = threadIdx.x / 32; row < rows && column < packs; row += THREADS / 32) {
            Pack<T, V> here = pack<V>(x, (image * rows + row) * packs + column);
#pragma unroll
            for (int k = 0; k < V; k++) sums.cell[k] += (S)here.cell[k];
        }
        __syncthreads();  // the sums of the image before this one have been read
        all[threadIdx.x] = sums;
        __syncthreads();
        if (threadIdx.x >= 32 || column >= packs) continue;
        for (int other = threadIdx.x + 32; other < THREADS; other += 32)
            for (int k = 0; k < V; k++) sums.cell[k] += all[other].cell[k];
        for (int k = 0; k < V; k++) sums.cell[k] /= rows;
        pack<V>(y, image * packs + column) = rounded<T>(sums);
    }
}

// dx = dy / cells, in each of the `cells` of an image. With the channels last, (outer, places, inner) are images,
// cells and packs of channels, and `spread` is 1; as images are indexed, they are channels of all images, packs of
// cells, and 1.
template <typename T, int V>
__global__ void __launch_bounds__(256) mean_adjoint(const T* __restrict__ dy, int outer, int places, int inner,
                                                    int spread, int cells, T* __restrict__ dx) {
    typedef typename Sum<T>::type S;
    int size = outer * places * inner;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < size; at += gridDim.x * THREADS) {
        int image = at / (places * inner), from = spread ? (image * inner + at % inner) * V : image;
        Pack<S, V> slopes;
#pragma unroll
        for (int k = 0; k < V; k++) slopes.cell[k] = (S)dy[spread ? from + k : from] / cells;
        pack<V>(dx, at) = rounded<T>(slopes);
    }
}
