// Losses of classifiers, as in xcnn/losses.py: a block for each sample gives the sample's part of the loss, its row of
// the gradient, and whether it is right; then one block adds up.

// The first of the largest numbers. A NaN is larger than all others, as NumPy has it.
template <typename S> struct Largest {
    S value;
    int at;
    __device__ void meet(S other, int place) {
        bool larger = other > value || (other != other && value == value);
        bool equal = other == value || (other != other && value != value);
        if (larger || (equal && place < at)) value = other, at = place;
    }
};

// The first of the largest over all threads of a block, given to each; every thread must call it.
template <typename S> __device__ Largest<S> block_largest(Largest<S> mine) {
    __shared__ S values[32];
    __shared__ int places[32];
    for (int far = 16; far > 0; far /= 2) {
        S value = __shfl_xor_sync(0xffffffff, mine.value, far);
        int at = __shfl_xor_sync(0xffffffff, mine.at, far);
        mine.meet(value, at);
    }
    __syncthreads();  // what a call before this one has left was read
    if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = mine.value, places[threadIdx.x / 32] = mine.at;
    __syncthreads();
    Largest<S> all = {values[0], places[0]};
    for (int n = 1; n < blockDim.x / 32; n++) all.meet(values[n], places[n]);
    return all;
}

// The place of the largest of a row.
template <typename S, typename T> __device__ Largest<S> largest_of(const T* row, int classes) {
    Largest<S> mine = {(S)row[0], 0};
    for (int c = threadIdx.x; c < classes; c += blockDim.x) mine.meet((S)row[c], c);
    return block_largest(mine);
}

// The target of a sample: a row of numbers, or a label's one-hot row, in which a single class stands for that of 1; a
// label outside the classes is NaN in all cells. Smoothed: t `kept` + `spread`.
template <typename S> struct Target {
    const S* row;
    long long label;
    int classes;
    S kept, spread;
    __device__ S raw(int c) const {
        if (row) return row[c];
        bool known = label >= 0 && label < max(classes, 2);
        return known ? (S)(label == c + (classes == 1)) : (S)__uint_as_float(0x7fffffff);
    }
    __device__ S operator()(int c) const { return raw(c) * kept + spread; }
};

// t x, and 0 where t is 0, also of an infinite x.
template <typename S> __device__ S share(S t, S x) { return t == 0 ? 0 : t * x; }

// E = -sum over c of t_c log softmax(y)_c;  dE/dy_c = softmax(y)_c (sum of t) - t_c.
template <typename T> struct CrossEntropy {
    typedef typename Sum<T>::type S;
    S largest, log_sum, t_sum;
    __device__ CrossEntropy(const T* y, const Target<S>& t, int classes, S largest) : largest(largest) {
        S powers = 0, ts = 0;
        for (int c = threadIdx.x; c < classes; c += blockDim.x) {
            powers += exp((S)y[c] - largest);
            ts += t(c);
        }
        log_sum = log(block_sum(powers));
        t_sum = block_sum(ts);
    }
    __device__ S value(S y, S t) const { return -share(t, y - largest - log_sum); }
    __device__ S slope(S y, S t) const { return exp(y - largest - log_sum) * t_sum - t; }
};

// The smallest normal number of a type, and the largest below 1.
template <typename T> struct Limits;
template <> struct Limits<float> { static constexpr double least = 0x1p-126, most = 1 - 0x1p-24; };
template <> struct Limits<double> { static constexpr double least = 0x1p-1022, most = 1 - 0x1p-53; };
template <> struct Limits<float16> { static constexpr double least = 0x1p-14, most = 1 - 0x1p-11; };
template <> struct Limits<bfloat16> { static constexpr double least = 0x1p-126, most = 1 - 0x1p-8; };

// E = -sum of t log p + (1 - t) log(1 - p), p being y within those limits;  dE/dy = (1 - t) / (1 - p) - t / p.
template <typename T> struct BinaryCrossEntropy {
    typedef typename Sum<T>::type S;
    __device__ BinaryCrossEntropy(const T*, const Target<S>&, int, S) {}
    __device__ S within(S y) const {
        S least = Limits<T>::least, most = Limits<T>::most;
        return y < least ? least : y > most ? most : y;
    }
    __device__ S value(S y, S t) const { return -(t * log(within(y)) + (1 - t) * log(1 - within(y))); }
    __device__ S slope(S y, S t) const { return (1 - t) / (1 - within(y)) - t / within(y); }
};

// E = sum of max(y, 0) - y t + log(1 + exp(-|y|));  dE/dy = sigmoid(y) - t; both in a form that does not cancel.
template <typename T> struct BinaryCrossEntropyWithLogits {
    typedef typename Sum<T>::type S;
    __device__ BinaryCrossEntropyWithLogits(const T*, const Target<S>&, int, S) {}
    __device__ S value(S y, S t) const {
        return share(1 - t, y < 0 ? 0 : y) + share(t, y > 0 ? 0 : -y) + log1p(exp(y < 0 ? y : -y));
    }
    __device__ S slope(S y, S t) const {
        S power = exp(y < 0 ? y : -y), small = power / (1 + power), large = 1 / (1 + power);
        return y < 0 ? (1 - t) * small - t * large : (1 - t) * large - t * small;
    }
};

// Of sample n = blockIdx.x: losses[n] = E, dy[n] = dE/dy / size times the loss's scale, and whether y is right: its
// largest number stands where that of the target does, or a single one is on the target's side of the threshold.
//
// y and dy are (samples, classes). Either `labels`, (samples,), or `targets`, like y, is null, and so may the scale be.
template <typename T, template <typename> class Rule>
__global__ void rows(const T* y, const long long* labels, const typename Sum<T>::type* targets, int classes,
                     double smoothing, double threshold, int size, const float* loss_scale, T* dy,
                     typename Sum<T>::type* losses, int* right) {
    typedef typename Sum<T>::type S;
    long long first = (long long)blockIdx.x * classes;
    const T* row = y + first;
    Target<S> t = {targets ? targets + first : nullptr, labels ? labels[blockIdx.x] : 0, classes, (S)(1 - smoothing),
                   (S)(smoothing / classes)};
    Largest<S> largest = largest_of<S>(row, classes);
    Rule<T> rule(row, t, classes, largest.value);
    S loss = 0, scale = loss_scale ? *loss_scale : 1;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) {
        S here = row[c], wanted = t(c);
        loss += rule.value(here, wanted);
        dy[first + c] = (T)(rule.slope(here, wanted) / size * scale);
    }
    loss = block_sum(loss);
    long long wanted = targets ? largest_of<S>(t.row, classes).at : t.label;
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = loss;
        right[blockIdx.x] = classes == 1 ? (largest.value > threshold) == (t.raw(0) > 0.5) : largest.at == wanted;
    }
}

// value = sum of losses / size, and how many are right, by one block.
template <typename S>
__global__ void mean(const S* losses, const int* right, int samples, int size, S* value, long long* count) {
    double sum = 0;
    long long found = 0;
    for (int n = threadIdx.x; n < samples; n += blockDim.x) {
        sum += losses[n];
        found += right[n];
    }
    sum = block_sum(sum);
    found = block_sum(found);
    if (threadIdx.x == 0) *value = (S)(sum / size), *count = found;
}
