// The optimizers' update of many arrays in one launch: the rules of xcnn/optimizers.py, in their order of operations.
//
// All cells of all arrays are cut into chunks, which the blocks share out among them. Sums of squares are added up in
// double precision, one for each block, and so in a fixed order.

const int THREADS = 256;  // of each block
const int EACH = 4;       // cells of a chunk for each thread, which reads all of them before it writes any
const int CHUNK = THREADS * EACH;

// A weight with its gradient and moments, and where the new ones go, which may be the same places. A moment that the
// rule does not have is null. If `is_next`, the "gradient" is the value that replaces the weight.
struct Leaf {
    const void *weight, *gradient, *first, *second;
    void *new_weight, *new_first, *new_second;
    int cells, first_chunk, is_next, unused;
};
struct Leaves {
    Leaf leaf[52];
    int count, chunks;
};

// An optimizer's options, by their names in xcnn/optimizers.py; those that it does not have are 0.
struct Options {
    double beta1, beta2, rho, momentum, epsilon, weight_decay;
    int nesterov, unused;
};

// The numbers of one step: its learning rate, for Adam over 1 - beta1^step; what Adam multiplies the root of the second
// moment by; what AdamW keeps of a weight.
struct Rates {
    double rate, spread, kept;
};

// In a captured step the rates are those of `table` at `updates`, and nothing changes if the loss is not finite or the
// span has stopped. Otherwise all are null.
struct Captured {
    const Rates* table;
    const long long *updates, *stopped;
    const void* loss;
};

// One cell of an array in registers.
template <typename T> struct Cell {
    T weight, slope, first, second;
};

// v = momentum v + g;  w -= rate v, or with Nesterov w -= rate (g + momentum v), where g has weight_decay w in it.
struct SGD {
    template <typename T> __device__ static void change(Cell<T>& cell, const Options& options, const Rates& rates) {
        T momentum = options.momentum, step = cell.slope + (T)options.weight_decay * cell.weight;
        if (momentum != 0) {
            cell.first = momentum * cell.first + step;
            step = options.nesterov ? step + momentum * cell.first : cell.first;
        }
        cell.weight -= (T)rates.rate * step;
    }
};

// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2;  w = kept w - rate m / (sqrt(v) spread + epsilon).
struct Adam {
    template <typename T> __device__ static void change(Cell<T>& cell, const Options& options, const Rates& rates) {
        cell.first = (T)options.beta1 * cell.first + (T)(1 - options.beta1) * cell.slope;
        cell.second = (T)options.beta2 * cell.second + (T)(1 - options.beta2) * cell.slope * cell.slope;
        T root = sqrt(cell.second), step = cell.first / (root * (T)rates.spread + (T)options.epsilon);
        cell.weight = (T)rates.kept * cell.weight - (T)rates.rate * step;
    }
};

// s = rho s + (1 - rho) g^2;  v = momentum v + g / (sqrt(s) + epsilon);  w -= rate v, where g has weight_decay w in it.
struct RMSprop {
    template <typename T> __device__ static void change(Cell<T>& cell, const Options& options, const Rates& rates) {
        T slope = cell.slope + (T)options.weight_decay * cell.weight;
        cell.first = (T)options.rho * cell.first + (T)(1 - options.rho) * slope * slope;
        T root = sqrt(cell.first);
        cell.second = (T)options.momentum * cell.second + slope / (root + (T)options.epsilon);
        cell.weight -= (T)rates.rate * cell.second;
    }
};

// The leaf that a chunk belongs to, at or after leaf n.
__device__ inline int leaf_of(const Leaves& leaves, int chunk, int n) {
    while (n + 1 < leaves.count && leaves.leaf[n + 1].first_chunk <= chunk) n++;
    return n;
}

// sums[b] = sum of g^2 over the chunks of block b, for all gradients, as Squares has it.
template <typename G> __global__ void __launch_bounds__(256) squares(Leaves leaves, double* sums) {
    Squares<typename Sum<G>::type> sum;
    for (int chunk = blockIdx.x, n = 0; chunk < leaves.chunks; chunk += gridDim.x) {
        n = leaf_of(leaves, chunk, n);
        const Leaf& leaf = leaves.leaf[n];
        if (leaf.is_next) continue;
        const G* gradient = (const G*)leaf.gradient;
        int start = (chunk - leaf.first_chunk) * CHUNK + threadIdx.x;
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int at = start + k * THREADS;
            if (at < leaf.cells) sum.add(gradient[at]);
        }
    }
    double squares = sum.of_block();
    if (threadIdx.x == 0) sums[blockIdx.x] = squares;
}

// What gradients are to be multiplied by: clip_norm / max(norm, clip_norm), over the loss's scale; NaN where the step
// is not to be taken. Without `squares` the norm is not known, and is not asked for.
template <typename T>
__device__ double factor_of(const double* squares, int parts, double clip_norm, const float* loss_scale,
                            const Captured& captured) {
    if (captured.stopped && *captured.stopped >= 0) return __uint_as_float(0x7fffffff);
    if (captured.loss && !is_finite(*(const T*)captured.loss)) return __uint_as_float(0x7fffffff);
    double factor = loss_scale ? 1.0 / *loss_scale : 1.0;
    if (!squares) return factor;
    double norm = norm_of(squares, parts) * factor;
    if (!is_finite(norm)) return __uint_as_float(0x7fffffff);
    return clip_norm != 0 && norm > clip_norm ? factor * (clip_norm / norm) : factor;
}

// Cell `at` of a leaf; a moment that is not there is 0.
template <typename T, typename G> __device__ Cell<T> read(const Leaf& leaf, int at) {
    T slope = (typename Sum<G>::type)((const G*)leaf.gradient)[at];
    T first = leaf.first ? ((const T*)leaf.first)[at] : 0, second = leaf.second ? ((const T*)leaf.second)[at] : 0;
    return {((const T*)leaf.weight)[at], slope, first, second};
}

template <typename T> __device__ void write(const Leaf& leaf, int at, const Cell<T>& cell) {
    ((T*)leaf.new_weight)[at] = cell.weight;
    if (leaf.new_first) ((T*)leaf.new_first)[at] = cell.first;
    if (leaf.new_second) ((T*)leaf.new_second)[at] = cell.second;
}

// The new weights and moments, and each block's sums of squares of the gradients before clipping, of the new weights; the
// latter NaN where a moment is not finite.
//
// A step that is not to be taken gives the old weights and moments. `squares` are the sums of the kernel above, `parts` of
// them, or null.
template <typename T, typename G, typename Rule>
__global__ void __launch_bounds__(256) change(Leaves leaves, Options options, Rates rates, Captured captured,
                                              double clip_norm, const float* loss_scale, const double* squares,
                                              int parts, double* gradient_sums, double* weight_sums) {
    double factor = factor_of<T>(squares, parts, clip_norm, loss_scale, captured);
    bool goes = factor == factor;
    if (captured.table) rates = captured.table[*captured.updates];
    Squares<T> gradients;
    double of_weights = 0;
    for (int chunk = blockIdx.x, n = 0; chunk < leaves.chunks; chunk += gridDim.x) {
        n = leaf_of(leaves, chunk, n);
        const Leaf& leaf = leaves.leaf[n];
        int start = (chunk - leaf.first_chunk) * CHUNK + threadIdx.x;
        Cell<T> cells[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (start + k * THREADS < leaf.cells) cells[k] = read<T, G>(leaf, start + k * THREADS);
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            if (start + k * THREADS >= leaf.cells) continue;
            Cell<T>& cell = cells[k];
            if (!leaf.is_next) gradients.add(cell.slope);
            if (goes && leaf.is_next) cell.weight = cell.slope;
            if (goes && !leaf.is_next) {
                cell.slope *= (T)factor;
                Rule::change(cell, options, rates);
            }
            of_weights += (double)cell.weight * cell.weight + (0 * cell.first + 0 * cell.second);
            write(leaf, start + k * THREADS, cell);
        }
    }
    double of_gradients = gradients.of_block();
    of_weights = block_sum(of_weights);
    if (threadIdx.x == 0) gradient_sums[blockIdx.x] = of_gradients, weight_sums[blockIdx.x] = of_weights;
}
