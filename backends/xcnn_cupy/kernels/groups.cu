// Layer, group and instance normalisation: y = scale x_hat + bias, x_hat = (x - mean) / sqrt(variance + epsilon), mean and
// variance being those of a row: of a sample, of a group of its channels, or of the channels at one place.
//
// A block sees to some rows, `lanes` threads to each. It reads a row twice, the second time from cache as a rule.

struct Rows {
    int count;                    // of all rows
    int cells, run, apart, step;  // of a row: cell i lies i / run * apart + i % run * step behind its first one,
    int outer, inner, beside;     // which is at r / inner * outer + r % inner * beside for row r
    int features, each;           // cell n of memory has the scale n / each % features
    int lanes;                    // threads of a row; a power of 2
    int spread;                   // whether rows lie side by side: threads side by side then belong to several rows
};

// The row of one thread.
struct Place {
    Rows rows;
    int row, lane, far;  // `far` from thread to thread of the row
    int start;
    __device__ Place(const Rows& rows) : rows(rows) {
        int wide = THREADS / rows.lanes, of_block = rows.spread ? threadIdx.x % wide : threadIdx.x / rows.lanes;
        row = blockIdx.x * wide + of_block;
        lane = rows.spread ? threadIdx.x / wide : threadIdx.x % rows.lanes, far = rows.spread ? wide : 1;
        start = row / rows.inner * rows.outer + row % rows.inner * rows.beside;
    }
    __device__ int count() const { return row < rows.count ? rows.cells : 0; }
    __device__ int at(int i) const {
        return rows.run == rows.cells ? start + i * rows.step : start + i / rows.run * rows.apart + i % rows.run * rows.step;
    }
    __device__ int feature(int at) const { return at / rows.each % rows.features; }
    // What all threads of the row have gathered, in a fixed order; every thread must call it.
    template <typename P> __device__ P met(P mine) const {
        __shared__ P all[THREADS];
        __syncthreads();  // what a call before this one gave has been read
        all[threadIdx.x] = mine;
        for (int half = rows.lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lane < half) all[threadIdx.x].meet(all[threadIdx.x + half * far]);
        }
        __syncthreads();
        return all[threadIdx.x - lane * far];
    }
};

// y, and of each row its mean and 1 / sqrt(variance + epsilon); scale and bias may be null.
template <typename T>
__global__ void __launch_bounds__(256)
    standardise(const T* __restrict__ x, const typename Sum<T>::type* scale, const typename Sum<T>::type* bias, Rows rows,
                double epsilon, T* __restrict__ y, typename Sum<T>::type* mean, typename Sum<T>::type* inverse) {
    typedef typename Sum<T>::type S;
    Place place(rows);
    int count = place.count();
    S first = count > 0 ? (S)x[place.start] : S(0), seen = 0;
    Sums<S> sums = {};
    for (int i = place.lane; i < count; i += rows.lanes) {
        S far = (S)x[place.at(i)] - first;
        sums.meet({far, far * far}), seen += 1;
    }
    S far = seen > 0 ? sums.one / seen : S(0);
    Moments<S> mine = {seen, first + far, sums.other - sums.one * far}, all = place.met(mine);
    if (count == 0) return;
    S narrow = 1 / sqrt(all.squares / all.count + (S)epsilon);
    if (place.lane == 0) mean[place.row] = all.mean, inverse[place.row] = narrow;
    for (int i = place.lane; i < count; i += rows.lanes) {
        int at = place.at(i), feature = place.feature(at);
        S x_hat = ((S)x[at] - all.mean) * narrow;
        y[at] = (T)(scale ? fma(x_hat, scale[feature], bias[feature]) : x_hat);
    }
}

// dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(variance + epsilon) with g = dy scale, the means being those of rows.
template <typename T>
__global__ void __launch_bounds__(256)
    standardise_backward(const T* __restrict__ dy, const T* __restrict__ x, const typename Sum<T>::type* mean,
                         const typename Sum<T>::type* inverse, const typename Sum<T>::type* scale, Rows rows,
                         T* __restrict__ dx) {
    typedef typename Sum<T>::type S;
    Place place(rows);
    int count = place.count();
    S middle = count > 0 ? mean[place.row] : S(0), narrow = count > 0 ? inverse[place.row] : S(0);
    Sums<S> sums = {};
    for (int i = place.lane; i < count; i += rows.lanes) {
        int at = place.at(i);
        S g = scale ? (S)dy[at] * scale[place.feature(at)] : (S)dy[at];
        sums.meet({g, g * (((S)x[at] - middle) * narrow)});
    }
    Sums<S> all = place.met(sums);
    if (count == 0) return;
    S share = S(1) / count, level = all.one * share, tilt = all.other * share;
    for (int i = place.lane; i < count; i += rows.lanes) {
        int at = place.at(i);
        S g = scale ? (S)dy[at] * scale[place.feature(at)] : (S)dy[at], x_hat = ((S)x[at] - middle) * narrow;
        dx[at] = (T)((g - level - x_hat * tilt) * narrow);
    }
}

// parts[b][0][f] = sum of dy, parts[b][1][f] = sum of dy x_hat, over the cells of feature f that blocks (.., b) saw.
template <typename T, int V>
__global__ void __launch_bounds__(256)
    feature_sums(const T* __restrict__ dy, const T* __restrict__ x, const typename Sum<T>::type* mean,
                 const typename Sum<T>::type* inverse, Rows rows, Box box, typename Sum<T>::type* parts) {
    typedef typename Sum<T>::type S;
    Walk<V> walk(box);
    Sums<S> sums[V] = {};
    for (int n = walk.first; n < walk.count; n += walk.step) {
        int at = walk.at(n);
        Pack<T, V> slope = pack<V>(dy, at), here = pack<V>(x, at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            int cell = at * V + k, row = cell / rows.outer * rows.inner + cell / rows.beside % rows.inner;
            S x_hat = ((S)here.cell[k] - mean[row]) * inverse[row];
            sums[k].meet({(S)slope.cell[k], (S)slope.cell[k] * x_hat});
        }
    }
    write_parts(sums, walk, parts);
}
