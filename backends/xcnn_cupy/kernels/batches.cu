// A batch of samples, gathered on the device from the whole data set.

// batch[n] = samples[order[first + n]] for n = 0 .. count - 1, each sample being `cells` numbers.
template <typename T>
__global__ void gather(const T* samples, const long long* order, const long long* first, int count, int cells, T* batch) {
    for (long long n = blockIdx.x * (long long)blockDim.x + threadIdx.x; n < (long long)count * cells;
         n += (long long)gridDim.x * blockDim.x) {
        long long sample = order[*first + n / cells];
        batch[n] = samples[sample * cells + n % cells];
    }
}
