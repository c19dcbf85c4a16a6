// The three correlations of a convolutional layer, and the article's operations on single planes.
//
// A geometry is {channels, filters, groups, size: [H, W], kernel: [h, w], output: [H', W'], stride, padding, dilation}, with
// padding as [[top, bottom], [left, right]]. Arrays are (channels, H, W), (filters, channels / groups, h, w), (filters, H', W').

/** The positions [from, to) along an axis at which a tap, `offset` cells from the window's first place, lies within the image. */
function inside(count, offset, stride, size) {
  return [Math.max(0, Math.ceil(-offset / stride)), Math.min(count, Math.ceil((size - offset) / stride))];
}

/** Visits each kernel cell with its place, and the rows of output and input that it joins. */
function eachTap(g, visit) {
  const share = g.channels / g.groups;
  for (let o = 0; o < g.filters; o++) {
    const first = Math.floor(o / (g.filters / g.groups)) * share;
    for (let c = 0; c < share; c++)
      for (let a = 0; a < g.kernel[0]; a++)
        for (let b = 0; b < g.kernel[1]; b++) {
          const at = ((o * share + c) * g.kernel[0] + a) * g.kernel[1] + b;
          const row = a * g.dilation[0] - g.padding[0][0];
          const column = b * g.dilation[1] - g.padding[1][0];
          const [q0, q1] = inside(g.output[1], column, g.stride[1], g.size[1]);
          const [p0, p1] = inside(g.output[0], row, g.stride[0], g.size[0]);
          for (let p = p0; p < p1; p++) {
            const x = ((first + c) * g.size[0] + row + p * g.stride[0]) * g.size[1] + column;
            visit(at, (o * g.output[0] + p) * g.output[1], x, q0, q1, g.stride[1]);
          }
        }
  }
}

/** Y = X ⋆ K: what lies beneath the kernel, times the kernel, summed. */
function correlate(x, k, g) {
  const y = new Float64Array(g.filters * g.output[0] * g.output[1]);
  eachTap(g, (at, yRow, xRow, q0, q1, step) => {
    for (let q = q0; q < q1; q++) y[yRow + q] += k[at] * x[xRow + q * step];
  });
  return y;
}

/** dX: each dY goes back to the window that it was read from, with the same weights. */
function inputAdjoint(dy, k, g) {
  const dx = new Float64Array(g.channels * g.size[0] * g.size[1]);
  eachTap(g, (at, yRow, xRow, q0, q1, step) => {
    for (let q = q0; q < q1; q++) dx[xRow + q * step] += k[at] * dy[yRow + q];
  });
  return dx;
}

/** dK: each dY times the cell that lay beneath the kernel's. */
function kernelAdjoint(x, dy, g) {
  const dk = new Float64Array((g.filters * g.channels * g.kernel[0] * g.kernel[1]) / g.groups);
  eachTap(g, (at, yRow, xRow, q0, q1, step) => {
    let sum = 0;
    for (let q = q0; q < q1; q++) sum += dy[yRow + q] * x[xRow + q * step];
    dk[at] += sum;
  });
  return dk;
}

// Single planes: {rows, columns, cells}.

const plane = (rows, columns, cells = new Float64Array(rows * columns)) => ({ rows, columns, cells });

/** A cell, and 0 beside the plane. */
function cellAt({ rows, columns, cells }, row, column) {
  return row >= 0 && column >= 0 && row < rows && column < columns ? cells[row * columns + column] : 0;
}

/** The plane turned by 180 degrees: its cells in reverse order. */
const rot180 = ({ rows, columns, cells }) => plane(rows, columns, cells.slice().reverse());

/** A plane with `gaps` cells of zero between its cells. */
function spread({ rows, columns, cells }, [down, across]) {
  const wide = plane((rows - 1) * down + 1, (columns - 1) * across + 1);
  for (let p = 0; p < rows; p++)
    for (let q = 0; q < columns; q++) wide.cells[p * down * wide.columns + q * across] = cells[p * columns + q];
  return wide;
}

/** A plane with zeros around it; sides below 0 cut cells away. */
function padded(source, [[top, bottom], [left, right]]) {
  const wide = plane(source.rows + top + bottom, source.columns + left + right);
  for (let m = 0; m < wide.rows; m++)
    for (let n = 0; n < wide.columns; n++) wide.cells[m * wide.columns + n] = cellAt(source, m - top, n - left);
  return wide;
}

/** Valid correlation of planes, by its definition. */
function correlateValid(image, kernel) {
  const y = plane(image.rows - kernel.rows + 1, image.columns - kernel.columns + 1);
  for (let p = 0; p < y.rows; p++)
    for (let q = 0; q < y.columns; q++)
      for (let a = 0; a < kernel.rows; a++)
        for (let b = 0; b < kernel.columns; b++)
          y.cells[p * y.columns + q] += cellAt(image, p + a, q + b) * kernel.cells[a * kernel.columns + b];
  return y;
}

/** Full convolution of planes, by its definition: the sum of image[m - a, n - b] kernel[a, b]. */
function convolveFull(image, kernel) {
  const y = plane(image.rows + kernel.rows - 1, image.columns + kernel.columns - 1);
  for (let m = 0; m < y.rows; m++)
    for (let n = 0; n < y.columns; n++)
      for (let a = 0; a < kernel.rows; a++)
        for (let b = 0; b < kernel.columns; b++)
          y.cells[m * y.columns + n] += cellAt(image, m - a, n - b) * kernel.cells[a * kernel.columns + b];
  return y;
}

/** The zeros that the rows or columns of a full result have beside those of X, before and after: at least those of the padding. */
function fringe(g, axis) {
  const [lo] = g.padding[axis];
  const whole = (g.output[axis] - 1) * g.stride[axis] + (g.kernel[axis] - 1) * g.dilation[axis] + 1;
  return [-lo, g.size[axis] + lo - whole];
}

/** One pair's dX in three ways; each gives a plane as large as X. */
const WAYS = {
  scatter(dy, k, g) {
    const dx = plane(...g.size);
    for (let p = 0; p < dy.rows; p++)
      for (let q = 0; q < dy.columns; q++)
        for (let a = 0; a < k.rows; a++)
          for (let b = 0; b < k.columns; b++) {
            const m = p * g.stride[0] + a * g.dilation[0] - g.padding[0][0];
            const n = q * g.stride[1] + b * g.dilation[1] - g.padding[1][0];
            if (m >= 0 && n >= 0 && m < dx.rows && n < dx.columns)
              dx.cells[m * dx.columns + n] += cellAt(dy, p, q) * cellAt(k, a, b);
          }
    return dx;
  },
  gather(dy, k, g) {
    const turned = rot180(spread(k, g.dilation));
    const [rows, columns] = [turned.rows - 1, turned.columns - 1];
    const around = padded(spread(dy, g.stride), [[rows, rows], [columns, columns]]);
    return padded(correlateValid(around, turned), [fringe(g, 0), fringe(g, 1)]);
  },
  convolution(dy, k, g) {
    return padded(convolveFull(spread(dy, g.stride), spread(k, g.dilation)), [fringe(g, 0), fringe(g, 1)]);
  },
};
