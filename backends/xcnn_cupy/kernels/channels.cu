// What goes through images channel by channel: bias and activation, batch normalisation, and their gradients.

// ---- Bias and activation ----

// y = f(z), and dy f'(z) from y.
struct Identity {
    static const bool changes = false;
    template <typename S> __device__ static S f(S z) { return z; }
    template <typename S> __device__ static S through(S dy, S) { return dy; }
};
struct ReLU {
    static const bool changes = true;
    template <typename S> __device__ static S f(S z) { return z < 0 ? 0 : z; }
    template <typename S> __device__ static S through(S dy, S y) { return y <= 0 ? 0 : dy; } // selects: 0 times infinity is NaN
};
struct Sigmoid {
    static const bool changes = true;
    template <typename S> __device__ static S f(S z) {
        S power = exp(z < 0 ? z : -z);
        return (z >= 0 ? 1 : power) / (1 + power);
    }
    template <typename S> __device__ static S through(S dy, S y) { return dy * (y * (1 - y)); }
};
struct Tanh {
    static const bool changes = true;
    template <typename S> __device__ static S f(S z) { return tanh(z); }
    template <typename S> __device__ static S through(S dy, S y) { return dy * (1 - y * y); }
};

// y = f(y + bias), in place; `bias` has a number for each channel, or is null.
template <typename T, int V, typename F>
__global__ void __launch_bounds__(256) activate(T* y, const typename Sum<T>::type* bias, Box box) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Pack<S, V> shift = {};
    if (bias) shift = walk.of_channels(bias);
    each(walk, y, [&](int at, Pack<T, V>& here) {
#pragma unroll
        for (int k = 0; k < V; k++) here.cell[k] = (T)F::f((S)here.cell[k] + shift.cell[k]);
        pack<V>(y, at) = here;
    });
}

// dz = dy f'(z), and if `parts` is not null, parts[b][c] = sum of dz over the cells of channel c that blocks (.., b)
// saw. With the Identity dz is not written; then this is how columns are added up.
template <typename T, int V, typename F>
__global__ void __launch_bounds__(256) activation_backward(const T* __restrict__ dy, const T* __restrict__ y, Box box,
                                                           T* __restrict__ dz, typename Sum<T>::type* parts) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Total<S> totals[V] = {};
    for (int n = walk.first; n < walk.count; n += walk.step) {
        int at = walk.at(n);
        Pack<T, V> slope = pack<V>(dy, at), here;
        if (F::changes) here = pack<V>(y, at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            S change = F::through((S)slope.cell[k], (S)here.cell[k]);
            slope.cell[k] = (T)change;
            totals[k].sum += change;
        }
        if (F::changes) pack<V>(dz, at) = slope;
    }
    if (parts) write_parts(totals, walk, parts);
}

// y = f(a + b).
template <typename T, int V, typename F>
__global__ void __launch_bounds__(256) add(const T* __restrict__ a, const T* __restrict__ b, Box box,
                                           T* __restrict__ y) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    for (int n = walk.first; n < walk.count; n += walk.step) {
        int at = walk.at(n);
        Pack<T, V> here = pack<V>(a, at), other = pack<V>(b, at);
#pragma unroll
        for (int k = 0; k < V; k++) here.cell[k] = (T)F::f((S)here.cell[k] + (S)other.cell[k]);
        pack<V>(y, at) = here;
    }
}

// ---- Batch normalisation: y = scale x_hat + bias,  x_hat = (x - mean) / sqrt(variance + epsilon) ----

// parts[b][0 .. 2][c] = count, mean and squares of the cells of channel c that blocks (.., b) saw. A thread adds up
// what its cells differ from the first of them.
template <typename T, int V>
__global__ void __launch_bounds__(256) moments(const T* __restrict__ x, Box box, typename Sum<T>::type* parts) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Moments<S> mine[V] = {};
    Sums<S> sums[V] = {};
    S count = 0;
    Pack<T, V> start = {};
    if (walk.first < walk.count) start = pack<V>(x, walk.at(walk.first));
    each(walk, x, [&](int, Pack<T, V>& here) {
        count += 1;
#pragma unroll
        for (int k = 0; k < V; k++) {
            S far = (S)here.cell[k] - (S)start.cell[k];
            sums[k].meet({far, far * far});
        }
    });
    S share = count > 0 ? 1 / count : 0;
#pragma unroll
    for (int k = 0; k < V; k++) {
        S far = sums[k].one * share;
        mine[k] = {count, (S)start.cell[k] + far, sums[k].other - sums[k].one * far};
    }
    write_parts(mine, walk, parts);
}

// 1 / sqrt(variance + epsilon) for c = 0 .. channels - 1.
template <typename S>
__global__ void inverses(const S* variance, int channels, double epsilon, S* inverse) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < channels) inverse[c] = 1 / sqrt(variance[c] + (S)epsilon);
}

// From those parts, in box.outer rows: each channel's mean, 1 / sqrt(variance + epsilon), and running mean, variance
// and steps after this batch (xcnn/layers/batch_norm.py), this variance with count - 1 in its denominator. A single cell
// does not move them.
template <typename S>
__global__ void __launch_bounds__(256) finish_moments(const S* parts, Box box, const S* running_mean,
                                                      const S* running_variance, const S* running_steps,
                                                      double momentum, double early, double settled, double epsilon,
                                                      S* mean, S* inverse, S* next_mean, S* next_variance,
                                                      S* next_steps) {
    Walk<1> walk(box);
    Moments<S> all[1] = {};
    for (int n = walk.first; n < walk.count; n += walk.step) {
        const S* row = parts + n * 3 * box.columns + walk.column;
        all[0].meet({row[0], row[box.columns], row[box.columns * 2]});
    }
    merge(all, walk);
    if (walk.lane > 0 || !walk.has(0)) return;
    int c = walk.column;
    S count = all[0].count, squares = all[0].squares, steps = running_steps[0];
    mean[c] = all[0].mean;
    inverse[c] = 1 / sqrt(squares / count + (S)epsilon);
    next_mean[c] = running_mean[c], next_variance[c] = running_variance[c];
    if (c == 0) next_steps[0] = steps;
    if (count == 1) return;
    if (steps == 0)  // statistics that somebody set stay
        for (int k = 0; k < box.columns; k++)
            if (running_mean[k] != 0 || running_variance[k] != 1) steps = settled;
    if (c == 0) next_steps[0] = steps + 1;
    S least = 1 - momentum, share = (S)early / (steps + (S)early), weight = share > least ? share : least;
    S old = 1 - weight;
    next_mean[c] = old * running_mean[c] + weight * mean[c];
    next_variance[c] = old * running_variance[c] + weight * (squares / (count - 1));
}

// What normalisation does to the cells of a thread: y = (x - mean) factor + bias, the factor being scale over
// sqrt(variance + epsilon).
template <typename S, int V> struct Lines {
    Pack<S, V> mean, factor, bias;
    __device__ Lines(const Walk<V>& walk, const S* means, const S* inverses, const S* scales, const S* biases)
        : mean(walk.of_channels(means)), factor(walk.of_channels(scales)), bias(walk.of_channels(biases)) {
        Pack<S, V> inverse = walk.of_channels(inverses);
#pragma unroll
        for (int k = 0; k < V; k++) factor.cell[k] *= inverse.cell[k];
    }
    __device__ S y(int k, S x) const { return fma(x - mean.cell[k], factor.cell[k], bias.cell[k]); }
    // The gradient before the ReLU, if there is one: y is computed again as it was, which costs less than reading it.
    template <typename T> __device__ S before(int k, T dy, T x, int relu) const {
        return relu ? ReLU::through((S)dy, (S)(T)y(k, (S)x)) : (S)dy;
    }
};

// y, with a ReLU after it or without.
template <typename T, int V>
__global__ void __launch_bounds__(256)
    normalise(const T* __restrict__ x, const typename Sum<T>::type* mean, const typename Sum<T>::type* inverse,
              const typename Sum<T>::type* scale, const typename Sum<T>::type* bias, int relu, Box box,
              T* __restrict__ y) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Lines<S, V> lines(walk, mean, inverse, scale, bias);
    each(walk, x, [&](int at, Pack<T, V>& here) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            S whole = lines.y(k, (S)here.cell[k]);
            here.cell[k] = (T)(relu ? ReLU::f(whole) : whole);
        }
        pack<V>(y, at) = here;
    });
}

// parts[b][0][c] = sum of dy, parts[b][1][c] = sum of dy x_hat, over the cells of channel c that blocks (.., b) saw.
template <typename T, int V>
__global__ void __launch_bounds__(256)
    normalise_sums(const T* __restrict__ dy, const T* __restrict__ x, const typename Sum<T>::type* mean,
                   const typename Sum<T>::type* inverse, const typename Sum<T>::type* scale,
                   const typename Sum<T>::type* bias, int relu, Box box, typename Sum<T>::type* parts) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Lines<S, V> lines(walk, mean, inverse, scale, bias);
    Sums<S> sums[V] = {};
    for (int n = walk.first; n < walk.count; n += walk.step) {
        int at = walk.at(n);
        Pack<T, V> slope = pack<V>(dy, at), here = pack<V>(x, at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            S change = lines.before(k, slope.cell[k], here.cell[k], relu);
            sums[k].meet({change, change * ((S)here.cell[k] - lines.mean.cell[k])});
        }
    }
    Pack<S, V> narrow = walk.of_channels(inverse);
#pragma unroll
    for (int k = 0; k < V; k++) sums[k].other *= narrow.cell[k];
    write_parts(sums, walk, parts);
}

// dx = (dy - dbias / m - x_hat dscale / m) factor, m being the `cells` of a channel; with dbias and dscale null,
// where mean and variance did not depend on x, dx = dy factor.
template <typename T, int V>
__global__ void __launch_bounds__(256)
    normalise_backward(const T* __restrict__ dy, const T* __restrict__ x, const typename Sum<T>::type* mean,
                       const typename Sum<T>::type* inverse, const typename Sum<T>::type* scale,
                       const typename Sum<T>::type* bias, int relu, const typename Sum<T>::type* dbias,
                       const typename Sum<T>::type* dscale, int cells, Box box, T* __restrict__ dx) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Lines<S, V> lines(walk, mean, inverse, scale, bias);
    Pack<S, V> level = {}, tilt = {};  // what is taken from dy: the same for all cells, and in proportion to x - mean
    if (dbias) {
        S share = S(1) / cells;
        Pack<S, V> narrow = walk.of_channels(inverse);
        level = walk.of_channels(dbias), tilt = walk.of_channels(dscale);
#pragma unroll
        for (int k = 0; k < V; k++) level.cell[k] *= share, tilt.cell[k] *= narrow.cell[k] * share;
    }
    for (int n = walk.first; n < walk.count; n += walk.step) {
        int at = walk.at(n);
        Pack<T, V> slope = pack<V>(dy, at), here = pack<V>(x, at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            S change = lines.before(k, slope.cell[k], here.cell[k], relu), far = (S)here.cell[k] - lines.mean.cell[k];
            slope.cell[k] = (T)((change - level.cell[k] - far * tilt.cell[k]) * lines.factor.cell[k]);
        }
        pack<V>(dx, at) = slope;
    }
}
