// How kernels go through images channel by channel, and what they gather on their way.
//
// Memory is read in packs of V cells, and seen as a box of outer x columns x inner packs, the last axis fastest:
//   images as they are indexed, (N, C, H W / V): a column is a channel, to which all cells of its packs belong;
//   channels last, and rows of features, (N H W, C / V, 1): the cells of a pack belong to channels side by side.
// Arrays without channels are one column. A block sees to `wide` columns, as many as make a line of memory where they
// are side by side; its other threads, and the blocks blockIdx.y, share out the packs of each.

const int THREADS = 256;  // of each block

struct Box {
    int outer, columns, inner;
    int wide;    // a power of 2
    int spread;  // whether the cells of a pack belong to V channels instead of one
};

// The packs of one thread: numbers first, first + step, ... below `count` of its column.
template <int V> struct Walk {
    Box box;
    int column, lane, lanes, first, step, count;
    __device__ Walk(const Box& box) : box(box) {
        column = blockIdx.x * box.wide + threadIdx.x % box.wide;
        lane = threadIdx.x / box.wide, lanes = THREADS / box.wide;
        first = blockIdx.y * lanes + lane, step = gridDim.y * lanes;
        count = column < box.columns ? box.outer * box.inner : 0;
    }
    // Where pack n of the column lies.
    __device__ int at(int n) const {
        if (box.inner == 1) return n * box.columns + column;
        int image = n / box.inner;
        return (image * box.columns + column) * box.inner + n - image * box.inner;
    }
    __device__ int channels() const { return box.spread ? box.columns * V : box.columns; }
    // Whether cell k of its packs has a channel, to which no cell before it belongs.
    __device__ bool has(int k) const { return column < box.columns && (k == 0 || box.spread); }
    __device__ int channel(int k) const { return box.spread ? column * V + k : column; }
    // The numbers of the channels of its cells.
    template <typename S> __device__ Pack<S, V> of_channels(const S* numbers) const {
        Pack<S, V> mine;
#pragma unroll
        for (int k = 0; k < V; k++) mine.cell[k] = column < box.columns ? numbers[channel(k)] : 0;
        return mine;
    }
};

// work(at, pack) for all packs of a thread, by two: both are read before the first is worked on, as one at a time
// does not keep the memory busy.
template <int V, typename T, typename Work> __device__ void each(const Walk<V>& walk, const T* x, Work work) {
    int n = walk.first;
    for (; n + walk.step < walk.count; n += walk.step * 2) {
        int at = walk.at(n), next = walk.at(n + walk.step);
        Pack<T, V> here = pack<V>(x, at), there = pack<V>(x, next);
        work(at, here);
        work(next, there);
    }
    if (n >= walk.count) return;
    Pack<T, V> here = pack<V>(x, walk.at(n));
    work(walk.at(n), here);
}

// What all threads of a block have gathered for its columns, in a fixed order; the threads of lane 0 get the results,
// for each k that the walk `has`. P::meet takes in another P. Every thread must call it.
template <typename P, int V> __device__ void merge(P (&mine)[V], const Walk<V>& walk) {
    __shared__ P all[V][THREADS];
#pragma unroll
    for (int k = 1; k < V; k++)
        if (!walk.box.spread) mine[0].meet(mine[k]);
#pragma unroll
    for (int k = 0; k < V; k++) all[k][threadIdx.x] = mine[k];
    for (int far = walk.lanes / 2; far > 0; far /= 2) {
        __syncthreads();
        for (int k = 0; k < V && walk.lane < far; k++)
            if (walk.has(k)) all[k][threadIdx.x].meet(all[k][threadIdx.x + far * walk.box.wide]);
    }
#pragma unroll
    for (int k = 0; k < V; k++) mine[k] = all[k][threadIdx.x];
}

// The same, written into the block's row of `parts`: parts[b][f][c] is field f of what blocks (.., b) have gathered for
// channel c. P has FIELDS of them, and `put` writes them, each `step` behind the one before.
template <typename P, int V, typename S> __device__ void write_parts(P (&mine)[V], const Walk<V>& walk, S* parts) {
    merge(mine, walk);
    int channels = walk.channels();
    S* row = parts + blockIdx.y * P::FIELDS * channels;
#pragma unroll
    for (int k = 0; k < V; k++)
        if (walk.lane == 0 && walk.has(k)) mine[k].put(row + walk.channel(k), channels);
}

template <typename S> struct Total {
    static const int FIELDS = 1;
    S sum;
    __device__ void meet(const Total& more) { sum += more.sum; }
    __device__ void put(S* row, int) const { row[0] = sum; }
};

template <typename S> struct Sums {
    static const int FIELDS = 2;
    S one, other;
    __device__ void meet(const Sums& more) { one += more.one, other += more.other; }
    __device__ void put(S* row, int step) const { row[0] = one, row[step] = other; }
};

// The mean of some numbers, and the sum of squares of what they differ from it. Neither loses digits where the mean
// is large (Chan, Golub and LeVeque 1979), as sums of x and x^2 would.
template <typename S> struct Moments {
    static const int FIELDS = 3;
    S count, mean, squares;
    __device__ void put(S* row, int step) const { row[0] = count, row[step] = mean, row[2 * step] = squares; }
    __device__ void meet(const Moments& more) {
        if (more.count == 0) return;
        S total = count + more.count, share = more.count / total, far = more.mean - mean;
        mean += far * share;
        squares += more.squares + far * far * (count * share);
        count = total;
    }
};
