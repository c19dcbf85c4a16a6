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

/** What norms end in: X_hat scale + bias, and both gradients; X_hat itself where there is neither. */
function scaled(hat, { scale, bias }, places) {
  if (!scale) return { y: hat, gradients: () => ({}) };
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

  /** Cells of X and zeros in another order: `from` has for each cell of Y that of X, or −1; nothing is moved where there is none. */
  moved({ from }, x) {
    if (!from) return { y: x.slice(), backward: (dy) => ({ dx: dy.slice(), grads: {} }) };
    const places = decoded(from).cells;
    const backward = (dy) => {
      const dx = new Float64Array(x.length);
      places.forEach((place, n) => place >= 0 && (dx[place] += dy[n]));
      return { dx, grads: {} };
    };
    return { y: places.map((place) => (place < 0 ? 0 : x[place])), backward };
  },

  /** Y = A X Bᵀ for each channel: averages, larger and smaller images. */
  two_sided({ view: [channels, height, width], rows, columns }, x) {
    const [high, wide] = [rows.length, columns.length];
    const used = columns.map((row) => row.map((_, n) => n).filter((n) => row[n] !== 0));
    const each = (visit) => {
      for (let c = 0; c < channels; c++)
        for (let p = 0; p < high; p++)
          for (let m = 0; m < height; m++)
            if (rows[p][m] !== 0)
              for (let q = 0; q < wide; q++)
                for (const n of used[q])
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

  /** Softmax along an axis, or its logarithm. */
  softmax({ input, axis, logarithm }, x) {
    const others = input.map((_, n) => n).filter((n) => n !== axis);
    const rows = placesOver(input, others);
    const count = cellsOf(input) / input[axis];
    const most = new Float64Array(count).fill(-Infinity);
    x.forEach((value, n) => (most[rows[n]] = Math.max(most[rows[n]], value)));
    const sums = new Float64Array(count);
    x.forEach((value, n) => (sums[rows[n]] += Math.exp(value - most[rows[n]])));
    const logs = x.map((value, n) => value - most[rows[n]] - Math.log(sums[rows[n]]));
    const p = logs.map(Math.exp);
    const backward = (dy) => {
      const shares = new Float64Array(count);
      dy.forEach((value, n) => (shares[rows[n]] += logarithm ? value : value * p[n]));
      const slope = (value, n) => (logarithm ? dy[n] - value * shares[rows[n]] : value * (dy[n] - shares[rows[n]]));
      return { dx: p.map(slope), grads: {} };
    };
    return { y: logarithm ? logs : p, backward };
  },

  /** Y = scale X + bias, by channels. */
  scale({ input, weights: { scale, bias } }, x) {
    const places = placesOver(input, [0]);
    const { y, gradients } = scaled(x, { scale, bias: bias || { cells: new Float64Array(scale.cells.length) } }, places);
    const backward = (dy) => {
      const { scale: dscale, bias: dbias } = gradients(dy);
      const dx = dy.map((value, n) => value * scale.cells[places[n]]);
      return { dx, grads: bias ? { scale: dscale, bias: dbias } : { scale: dscale } };
    };
    return { y, backward };
  },

  /** Y = max(X, 0) + a min(X, 0), a of each channel, of each cell or of all. */
  prelu({ input, weights: { negative_slope: slope } }, x) {
    const channels = placesOver(input, [0]);
    const { length } = slope.cells;
    const place = (n) => (length === x.length ? n : length > 1 ? channels[n] : 0);
    const backward = (dy) => {
      const da = new Float64Array(slope.cells.length);
      dy.forEach((value, n) => (da[place(n)] += value * Math.min(x[n], 0)));
      return { dx: dy.map((value, n) => (x[n] > 0 ? value : value * slope.cells[place(n)])), grads: { negative_slope: da } };
    };
    return { y: x.map((value, n) => (value > 0 ? value : slope.cells[place(n)] * value)), backward };
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
      const dHat = dy.map((value, n) => (weights.scale ? value * weights.scale.cells[places[n]] : value));
      const level = means(dHat, groups, count);
      const slope = means(dHat.map((value, n) => value * hat[n]), groups, count);
      const dx = dHat.map((value, n) => (value - level[groups[n]] - hat[n] * slope[groups[n]]) * inverse[groups[n]]);
      return { dx, grads: gradients(dy) };
    };
    return { y, backward };
  },

  /** StandardizedConv2D: each filter's kernel gets the mean 0 and the variance 1 before it is used. */
  standardised_correlate(node, x) {
    const { kernel, bias } = node.weights;
    const made = OPERATIONS.standardise(
      { view: kernel.shape, axes: [1, 2, 3], scale_axes: [], weights: {}, epsilon: node.epsilon }, kernel.cells);
    const { y, backward } = OPERATIONS.correlate({ ...node, weights: { kernel: { ...kernel, cells: made.y }, bias } }, x);
    const through = (dy) => {
      const { dx, grads } = backward(dy);
      const used = { kernel: made.y, gradient: grads.kernel };
      return { dx, used, grads: { ...grads, kernel: made.backward(grads.kernel).dx } };
    };
    return { y, backward: through };
  },

  /** LocalResponseNorm: Y = X / S^beta, S = k + alpha / size (sum of X^2 over neighbouring channels). */
  local_response({ input, size, alpha, beta, k }, x) {
    const channels = input[0];
    const each = x.length / channels;
    const neighbours = (cells, before, behind) =>
      cells.map((_, n) => {
        const c = Math.floor(n / each);
        let sum = 0;
        for (let m = Math.max(0, c - before); m <= Math.min(channels - 1, c + behind); m++) sum += cells[m * each + (n % each)];
        return sum;
      });
    const [before, behind] = [Math.floor(size / 2), Math.floor((size - 1) / 2)];
    const s = neighbours(x.map((value) => value * value), before, behind).map((sum) => k + (alpha / size) * sum);
    const by = s.map((value) => value ** -beta);
    const backward = (dy) => {
      const sums = neighbours(dy.map((value, n) => (value * x[n] * by[n]) / s[n]), behind, before);
      return { dx: dy.map((value, n) => value * by[n] - ((2 * alpha * beta) / size) * x[n] * sums[n]), grads: {} };
    };
    return { y: x.map((value, n) => value * by[n]), backward };
  },
};
