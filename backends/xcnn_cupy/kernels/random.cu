// Random bits and dropout: Threefry-2x32 with 20 rounds under keys that are paths of numbers, as in xcnn/random.py.

struct Words {
    unsigned first, second;
};

// A key: `length` numbers, but that at `place` is read from the device's memory, if `counted` is not null.
struct Path {
    long long numbers[32];
    const long long* counted;
    int length, place;
};

// The 64-bit counter, encrypted with the key.
__device__ inline Words threefry(Words key, Words counter) {
    const int turns[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const unsigned words[3] = {key.first, key.second, key.first ^ key.second ^ 0x1BD11BDA};
    unsigned x0 = counter.first + words[0], x1 = counter.second + words[1];
#pragma unroll
    for (int block = 0; block < 5; block++) {
#pragma unroll
        for (int n = 0; n < 4; n++) {
            int turn = turns[block % 2][n];
            x0 += x1;
            x1 = x0 ^ (x1 << turn | x1 >> (32 - turn));
        }
        x0 += words[(block + 1) % 3];
        x1 += words[(block + 2) % 3] + block + 1;
    }
    return {x0, x1};
}

// One 64-bit key from a path, each number of it encrypting the next: by one thread, for its block.
__device__ inline Words folded(const Path& path) {
    __shared__ Words key;
    if (threadIdx.x == 0) {
        Words words = {0, 0};
        for (int n = 0; n < path.length; n++) {
            long long number = path.counted && n == path.place ? *path.counted : path.numbers[n];
            words = threefry(words, {(unsigned)(number >> 32), (unsigned)number});
        }
        key = words;
    }
    __syncthreads();
    return key;
}

// bits[n] for n = 0 .. size - 1: the first words of counters 0, 1, ... half - 1, then their second words.
__global__ void random_bits(Path path, int size, long long* bits) {
    Words key = folded(path);
    int half = size / 2 + size % 2;
    for (int n = blockIdx.x * blockDim.x + threadIdx.x; n < half; n += gridDim.x * blockDim.x) {
        Words words = threefry(key, {0, (unsigned)n});
        bits[n] = words.first;
        if (half + n < size) bits[half + n] = words.second;
    }
}

// The number that cell n of memory has in the order of indices, where images of `area` cells for each of some channels
// lie with the channels last. With one channel it is n itself.
__device__ inline int in_order(int n, int channels, int area) {
    if (channels == 1) return n;
    int image = n / (channels * area), cell = n % (channels * area);
    return image * channels * area + cell % channels * area + cell / channels;
}

// The two words of the counter that the cell with this number shares.
__device__ inline Words drawn(Words key, int n, int half) { return threefry(key, {0, (unsigned)(n < half ? n : n - half)}); }

// y = x by where the cell's random word is at least `least`, else x 0, which a NaN survives.
//
// Cells n and half + n share a counter, and one thread sees to both; so it does also with the channels last if the
// number of images is even, since those two cells lie `half` apart in memory then too.
template <typename T>
__global__ void dropped(const T* x, Path path, unsigned least, double by, int size, int channels, int area, T* y) {
    typedef typename Sum<T>::type S;
    Words key = folded(path);
    S factor = by;
    int half = size / 2 + size % 2;
    for (int n = blockIdx.x * blockDim.x + threadIdx.x; n < half; n += gridDim.x * blockDim.x) {
        int near = in_order(n, channels, area);
        Words words = drawn(key, near, half);
        y[n] = (T)((S)x[n] * ((near < half ? words.first : words.second) >= least ? factor : 0));
        if (half + n >= size) continue;
        int far = in_order(half + n, channels, area);
        if (far != near + half) words = drawn(key, far, half);
        y[half + n] = (T)((S)x[half + n] * ((far < half ? words.first : words.second) >= least ? factor : 0));
    }
}
