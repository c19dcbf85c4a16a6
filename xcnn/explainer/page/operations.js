// What layers compute: an operation takes its node of the net and x, and gives {y, backward}; backward(dy) gives {dx, grads}.
//
// A node is {op, path, kind, input, output, weights, ...}: `weights` holds arrays by name, all else is the operation's own.

/** Y plus a bias for each filter, or for each cell; Y is written into. */
function addBias(y, bias, cellsEach) {
  if (bias) for (let n = 0; n < y.length; n++) y[n] += bias.cells[Math.floor(n / cellsEach)];
  return y;
}

/** dB: dY, summed over the cells that share a bias. */
function biasGradient(dy, bias, cellsEach) {
  if (!bias) return {};
  const sums = new Float64Array(bias.cells.length);
  for (let n = 0; n < dy.length; n++) sums[Math.floor(n / cellsEach)] += dy[n];
  return { bias: sums };
}

/** Visits the cells of each pooling window that lie within the image. */
function eachWindow(g, visit) {
  for (let c = 0; c < g.channels; c++)
    for (let p = 0; p < g.output[0]; p++)
      for (let q = 0; q < g.output[1]; q++) {
        const found = [];
        for (let a = 0; a < g.kernel[0]; a++)
          for (let b = 0; b < g.kernel[1]; b++) {
            const m = p * g.stride[0] + a - g.padding[0][0];
            const n = q * g.stride[1] + b - g.padding[1][0];
            if (m >= 0 && n >= 0 && m < g.size[0] && n < g.size[1]) found.push((c * g.size[0] + m) * g.size[1] + n);
          }
        visit((c * g.output[0] + p) * g.output[1] + q, found);
      }
}

/** What BatchNorm, LayerNorm and GroupNorm end in: X_hat scale + bias, and both gradients. */
function scaled(hat, { scale, bias }, places) {
  const y = hat.map((value, n) => value * scale.cells[places[n]] + bias.cells[places[n]]);
  const gradients = (dy) => {
    const grads = { scale: new Float64Array(scale.cells.length), bias: new Float64Array(bias.cells.length) };
    dy.forEach((value, n) => {
      grads.scale[places[n]] += value * hat[n];
      grads.bias[places[n]] += value;
    });
    return grads;
  };
  return { y, gradients };
}

/** The means of an array's cells by group. */
function means(cells, groups, count) {
  const sums = new Float64Array(count);
  const sizes = new Float64Array(count);
  cells.forEach((value, n) => {
    sums[groups[n]] += value;
    sizes[groups[n]] += 1;
  });
  return sums.map((sum, n) => sum / sizes[n]);
}

const OPERATIONS = {
  /** Conv2D, DepthwiseConv2D, Conv1D. */
  correlate({ geometry: g, weights: { kernel, bias } }, x) {
    const each = bias && (g.filters * g.output[0] * g.output[1]) / bias.cells.length;
    const backward = (dy) => ({
      dx: inputAdjoint(dy, kernel.cells, g),
      grads: { kernel: kernelAdjoint(x, dy, g), ...biasGradient(dy, bias, each) },
    });
    return { y: addBias(correlate(x, kernel.cells, g), bias, each), backward };
  },

  /** Conv2DTranspose: the way back of a correlation, taken forward. */
  transpose({ geometry: g, weights: { kernel, bias } }, x) {
    const each = bias && (g.channels * g.size[0] * g.size[1]) / bias.cells.length;
    const backward = (dy) => ({
      dx: correlate(dy, kernel.cells, g),
      grads: { kernel: kernelAdjoint(dy, x, g), ...biasGradient(dy, bias, each) },
    });
    return { y: addBias(inputAdjoint(x, kernel.cells, g), bias, each), backward };
  },

  /** Y = X W + B, W being (features, units). */
  dense({ weights: { kernel, bias } }, x) {
    const [features, units] = kernel.shape;
    const y = bias ? bias.cells.slice() : new Float64Array(units);
    for (let f = 0; f < features; f++) for (let u = 0; u < units; u++) y[u] += x[f] * kernel.cells[f * units + u];
    const backward = (dy) => {
      const dx = new Float64Array(features);
      const dk = new Float64Array(features * units);
      for (let f = 0; f < features; f++)
        for (let u = 0; u < units; u++) {
          dx[f] += dy[u] * kernel.cells[f * units + u];
          dk[f * units + u] = x[f] * dy[u];
        }
      return { dx, grads: bias ? { kernel: dk, bias: dy.slice() } : { kernel: dk } };
    };
    return { y, backward };
  },

  /** MaxPool2D and GlobalMaxPool2D: dY goes to the first of the largest cells. */
  max_pool({ geometry: g }, x) {
    const y = new Float64Array(g.channels * g.output[0] * g.output[1]);
    const from = new Int32Array(y.length);
    eachWindow(g, (at, window) => {
      from[at] = window.reduce((best, cell) => (x[cell] > x[best] ? cell : best), window[0]);
      y[at] = x[from[at]];
    });
    const backward = (dy) => {
      const dx = new Float64Array(x.length);
      dy.forEach((value, n) => (dx[from[n]] += value));
      return { dx, grads: {} };
    };
    return { y, backward };
  },

  /** AveragePool2D and GlobalAveragePool2D: the mean of a window's cells, padding not counted. */
  average_pool({ geometry: g }, x) {
    const y = new Float64Array(g.channels * g.output[0] * g.output[1]);
    eachWindow(g, (at, window) => (y[at] = window.reduce((sum, cell) => sum + x[cell], 0) / window.length));
    const backward = (dy) => {
      const dx = new Float64Array(x.length);
      eachWindow(g, (at, window) => window.forEach((cell) => (dx[cell] += dy[at] / window.length)));
      return { dx, grads: {} };
    };
    return { y, backward };
  },

  /** Flatten and Reshape, and Dropout, which does nothing in a prediction. */
  same: (node, x) => ({ y: x.slice(), backward: (dy) => ({ dx: dy.slice(), grads: {} }) }),

  /** ZeroPadding2D: each channel as a plane. */
  pad({ input: [channels, rows, columns], output: [, high, wide], padding }, x) {
    const each = (cells, size, [m, n], around) => {
      const one = (c) => padded(plane(m, n, cells.slice(c * size, (c + 1) * size)), around).cells;
      return Float64Array.from(Array.from({ length: channels }, (_, c) => [...one(c)]).flat());
    };
    const cut = padding.map((sides) => sides.map((side) => -side));
    return {
      y: each(x, rows * columns, [rows, columns], padding),
      backward: (dy) => ({ dx: each(dy, high * wide, [high, wide], cut), grads: {} }),
    };
  },

  /** UpSampling2D: Y = A X Bᵀ for each channel. */
  resample({ input: [channels, height, width], rows, columns }, x) {
    const [high, wide] = [rows.length, columns.length];
    const each = (visit) => {
      for (let c = 0; c < channels; c++)
        for (let p = 0; p < high; p++)
          for (let q = 0; q < wide; q++)
            for (let m = 0; m < height; m++)
              if (rows[p][m] !== 0)
                for (let n = 0; n < width; n++)
                  visit((c * high + p) * wide + q, (c * height + m) * width + n, rows[p][m] * columns[q][n]);
    };
    const y = new Float64Array(channels * high * wide);
    each((to, from, weight) => (y[to] += weight * x[from]));
    const backward = (dy) => {
      const dx = new Float64Array(x.length);
      each((to, from, weight) => (dx[from] += weight * dy[to]));
      return { dx, grads: {} };
    };
    return { y, backward };
  },

  activation({ f, options }, x) {
    const y = new Float64Array(x.length);
    const slope = new Float64Array(x.length);
    x.forEach((value, n) => ([y[n], slope[n]] = ACTIVATIONS[f](value, options)));
    return { y, backward: (dy) => ({ dx: dy.map((value, n) => value * slope[n]), grads: {} }) };
  },

  /** Softmax along an axis. */
  softmax({ input, axis }, x) {
    const others = input.map((_, n) => n).filter((n) => n !== axis);
    const rows = placesOver(input, others);
    const count = cellsOf(input) / input[axis];
    const most = new Float64Array(count).fill(-Infinity);
    x.forEach((value, n) => (most[rows[n]] = Math.max(most[rows[n]], value)));
    const powers = x.map((value, n) => Math.exp(value - most[rows[n]]));
    const sums = new Float64Array(count);
    powers.forEach((value, n) => (sums[rows[n]] += value));
    const y = powers.map((value, n) => value / sums[rows[n]]);
    const backward = (dy) => {
      const shares = new Float64Array(count);
      dy.forEach((value, n) => (shares[rows[n]] += value * y[n]));
      return { dx: y.map((value, n) => value * (dy[n] - shares[rows[n]])), grads: {} };
    };
    return { y, backward };
  },

  /** BatchNorm of a prediction: mean and variance are the running ones. */
  batch_norm({ input, weights, epsilon }, x) {
    const channels = placesOver(input, [0]);
    const inverse = weights.running_variance.cells.map((variance) => 1 / Math.sqrt(variance + epsilon));
    const hat = x.map((value, n) => (value - weights.running_mean.cells[channels[n]]) * inverse[channels[n]]);
    const { y, gradients } = scaled(hat, weights, channels);
    const slope = (n) => weights.scale.cells[channels[n]] * inverse[channels[n]];
    return { y, backward: (dy) => ({ dx: dy.map((value, n) => value * slope(n)), grads: gradients(dy) }) };
  },

  /** LayerNorm and GroupNorm: each group of cells gets the mean 0 and the variance 1. */
  standardise({ view, axes, scale_axes: scaleAxes, weights, epsilon }, x) {
    const others = view.map((_, n) => n).filter((n) => !axes.includes(n));
    const groups = placesOver(view, others);
    const count = cellsOf(others.map((n) => view[n]));
    const places = placesOver(view, scaleAxes);
    const mean = means(x, groups, count);
    const centred = x.map((value, n) => value - mean[groups[n]]);
    const variance = means(centred.map((value) => value * value), groups, count);
    const inverse = variance.map((value) => 1 / Math.sqrt(value + epsilon));
    const hat = centred.map((value, n) => value * inverse[groups[n]]);
    const { y, gradients } = scaled(hat, weights, places);
    const backward = (dy) => {
      const dHat = dy.map((value, n) => value * weights.scale.cells[places[n]]);
      const level = means(dHat, groups, count);
      const slope = means(dHat.map((value, n) => value * hat[n]), groups, count);
      const dx = dHat.map((value, n) => (value - level[groups[n]] - hat[n] * slope[groups[n]]) * inverse[groups[n]]);
      return { dx, grads: gradients(dy) };
    };
    return { y, backward };
  },

  /** Sequential: the chain rule. */
  sequential({ children }, x, call) {
    const backwards = [];
    for (const child of children) {
      const { y, backward } = call(child, x);
      backwards.push(backward);
      x = y;
    }
    return { y: x, backward: (dy) => ({ dx: backwards.reduceRight((d, backward) => backward(d).dx, dy), grads: {} }) };
  },

  /** Residual: f(X) + g(X). */
  residual({ children, shortcut }, x, call) {
    const body = OPERATIONS.sequential({ children }, x, call);
    const beside = shortcut ? call(shortcut, x) : OPERATIONS.same({}, x);
    const backward = (dy) => {
      const other = beside.backward(dy).dx;
      return { dx: body.backward(dy).dx.map((value, n) => value + other[n]), grads: {} };
    };
    return { y: body.y.map((value, n) => value + beside.y[n]), backward };
  },

  /** Concatenate: branches side by side, their channels joined. */
  concatenate({ children }, x, call) {
    const branches = children.map((child) => call(child, x));
    const y = Float64Array.from(branches.flatMap((branch) => [...branch.y]));
    const backward = (dy) => {
      const dx = new Float64Array(x.length);
      let from = 0;
      for (const branch of branches) {
        const part = branch.backward(dy.slice(from, from + branch.y.length)).dx;
        part.forEach((value, n) => (dx[n] += value));
        from += branch.y.length;
      }
      return { dx, grads: {} };
    };
    return { y, backward };
  },
};
