// Windows as the columns of a matrix, (C h w, N H' W'), and its adjoint, for correlations as products of matrices.
//
// Images are (N, C, H, W) as they are indexed. Zeros around them are not laid out anywhere: an index that leaves the
// image reads a zero.

const int THREADS = 256;  // of each block

// Along one of an image's axes: its cells, the windows, taps of a window, cells from one window to the next, from one
// tap to the next, and of padding before the image.
struct Axis {
    int cells, windows, taps, stride, dilation, before;
};

struct Windows {
    Axis rows, columns;
    int images, channels;
};

// columns[c][i][j][n][p][q] = x[n][c][p s + i d - top][q s + j d - left]. A thread lays out one channel of one
// window.
template <typename T>
__global__ void __launch_bounds__(256) lay_out(const T* __restrict__ x, Windows windows, T* __restrict__ columns) {
    Axis rows = windows.rows, across = windows.columns;
    int positions = windows.images * rows.windows * across.windows;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < positions * windows.channels; at += gridDim.x * THREADS) {
        int c = at / positions, position = at % positions;
        int q = position % across.windows, p = position / across.windows % rows.windows;
        int n = position / across.windows / rows.windows;
        const T* plane = x + (n * windows.channels + c) * rows.cells * across.cells;
        T* column = columns + c * rows.taps * across.taps * positions + position;
        for (int i = 0; i < rows.taps; i++)
            for (int j = 0; j < across.taps; j++) {
                int row = p * rows.stride + i * rows.dilation - rows.before;
                int cell = q * across.stride + j * across.dilation - across.before;
                bool inside = row >= 0 && row < rows.cells && cell >= 0 && cell < across.cells;
                *column = inside ? plane[row * across.cells + cell] : (T)0.0f;
                column += positions;
            }
    }
}

// dx[n][c][y][x] = the sum of those cells of the columns that were taken from there, in the order of the taps.
template <typename T>
__global__ void __launch_bounds__(256) fold(const T* __restrict__ columns, Windows windows, T* __restrict__ dx) {
    typedef typename Sum<T>::type S;
    Axis rows = windows.rows, across = windows.columns;
    int positions = windows.images * rows.windows * across.windows;
    int size = windows.images * windows.channels * rows.cells * across.cells;
    for (int at = blockIdx.x * THREADS + threadIdx.x; at < size; at += gridDim.x * THREADS) {
        int cell = at % across.cells, row = at / across.cells % rows.cells, plane = at / across.cells / rows.cells;
        int c = plane % windows.channels, n = plane / windows.channels;
        S sum = 0;
        for (int i = 0; i < rows.taps; i++) {
            int down = row + rows.before - i * rows.dilation, p = down / rows.stride;
            if (down < 0 || p * rows.stride != down || p >= rows.windows) continue;
            for (int j = 0; j < across.taps; j++) {
                int right = cell + across.before - j * across.dilation, q = right / across.stride;
                if (right < 0 || q * across.stride != right || q >= across.windows) continue;
                int tap = (c * rows.taps + i) * across.taps + j;
                sum += (S)columns[tap * positions + (n * rows.windows + p) * across.windows + q];
            }
        }
        dx[at] = (T)sum;
    }
}
