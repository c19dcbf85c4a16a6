// A batch of samples, gathered on the device from the whole data set.

// x[n] = images[order[first + n]] in another type, and t[n] = targets[order[first + n]], for n = 0 .. count - 1.
//
// A block sees to samples blockIdx.y, blockIdx.y + gridDim.y, .... An image is `cells` numbers, a target `target_cells`.
// If `channels` is not 1, images lie as they are indexed, and those of x with so many channels last.
template <typename From, typename To, typename Target>
__global__ void gather_batch(const From* images, const Target* targets, const long long* order, const long long* first,
                             int count, int cells, int channels, int target_cells, To* x, Target* t) {
    int start = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x, area = cells / channels;
    for (int n = blockIdx.y; n < count; n += gridDim.y) {
        long long sample = order[*first + n];
        const From* image = images + sample * cells;
        for (int cell = start; cell < cells; cell += stride) {
            int there = channels == 1 ? cell : cell % channels * area + cell / channels;
            x[(long long)n * cells + cell] = (To)(typename Sum<From>::type)image[there];
        }
        for (int cell = start; cell < target_cells; cell += stride)
            t[(long long)n * target_cells + cell] = targets[sample * target_cells + cell];
    }
}
