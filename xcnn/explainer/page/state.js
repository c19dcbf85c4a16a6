// What is chosen, and what the sections show of it.

/** An array of the net as planes: channels of an image or of a signal; a vector is cut into rows. */
function planesOf(cells, shape) {
  const [channels, rows, columns] =
    shape.length === 3 ? shape : shape.length === 2 ? [shape[0], 1, shape[1]] : [1, ...rowsOf(cells.length)];
  const size = rows * columns;
  return Array.from({ length: channels }, (_, c) => plane(rows, columns, cells.slice(c * size, (c + 1) * size)));
}

/** The planes of one value, or of several that a layer was given, each with the shape of its own. */
function planesOfAll(cells, shape) {
  return Array.isArray(cells) ? cells.flatMap((each, n) => planesOf(each, shape[n])) : planesOf(cells, shape);
}

/** A shape, or several, in words. */
const sized = (shape) => (Array.isArray(shape[0]) ? shape.map(sized).join(", ") : shape.join("×"));

/** Rows and columns of a vector: one row of up to 32 cells, else as square as it divides. */
function rowsOf(count) {
  if (count <= 32) return [1, count];
  for (let rows = Math.floor(Math.sqrt(count)); rows > 1; rows--) if (count % rows === 0) return [rows, count / rows];
  return [1, count];
}

class State {
  constructor(network) {
    this.network = network;
    this.correlations = network.nodes.filter((node) => node.op in ROLES); // one way or back
    this.changes = 0;
    this.listeners = [];
    this.compute();
    this.chooseLayer(this.correlations[0]?.path);
    const [{ rows, columns }] = inputPlanes(network.x, network.inputs);
    this.pixel = { plane: 0, at: [Math.floor(rows / 2), Math.floor(columns / 2)] };
  }

  compute() {
    this.result = this.network.run();
  }

  /** Something was changed: all is computed anew. */
  changed() {
    this.changes += 1;
    this.compute();
    this.show();
  }

  /** Shows all anew; what had the focus keeps it, though it was taken out and put in again. */
  show() {
    const focused = document.activeElement;
    for (const listener of this.listeners) listener(this);
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  }

  /** A layer in full; first the element whose |sent| and window are largest, where a window counts by what differs in it: of an empty or even one there is little to see. */
  chooseLayer(path) {
    this.path = path;
    if (path === undefined) return;
    const record = this.result.layers.get(path);
    const { node } = record;
    const { names } = ROLES[node.op];
    const [x, dy] = [record[names.read], record[names.sent]];
    const g = node.geometry;
    const ones = new Float64Array((g.filters * g.channels * g.kernel[0] * g.kernel[1]) / g.groups).fill(1);
    const each = ones.length / g.filters;
    const squares = correlate(x.map((value) => value * value), ones, g);
    const sums = correlate(x, ones, g);
    const shares = dy.map((value, n) => value * (Math.sqrt(Math.max(squares[n] - sums[n] ** 2 / each, 0)) + 0.01 * Math.sqrt(squares[n])));
    [this.filter, ...this.element] = indicesOf(placeOfLargest(shares), [g.filters, ...g.output]);
    this.share = placeOfLargest(Array.from({ length: g.channels / g.groups }, (_, c) => windowSum(this, c)));
    this.chooseElement(...this.element);
    const { dK } = this.view().own;
    this.tap = indicesOf(placeOfLargest(dK.cells), [dK.rows, dK.columns]);
  }

  chooseFilter(filter) {
    this.filter = filter;
    const { sent, g } = this.view();
    this.chooseElement(...indicesOf(placeOfLargest(sent.cells), g.output));
  }

  /** An output cell; the cell of X that is looked at is the middle of its window. */
  chooseElement(p, q) {
    const { g } = this.view();
    this.element = [p, q];
    this.cell = [p, q].map((at, axis) => {
      const middle = at * g.stride[axis] + Math.floor((g.kernel[axis] - 1) / 2) * g.dilation[axis] - g.padding[axis][0];
      return Math.min(Math.max(middle, 0), g.size[axis] - 1);
    });
  }

  /** The pair of filter i and channel j that is looked at, its planes, and the places of their cells. */
  view(channel = this.share) {
    const record = this.result.layers.get(this.path);
    const { node } = record;
    const g = node.geometry;
    const kernel = node.weights.kernel;
    const share = g.channels / g.groups;
    const c = Math.min(channel ?? 0, share - 1);
    const i = this.filter;
    const j = Math.floor(i / (g.filters / g.groups)) * share + c;
    const [xs, ys, ks] = [g.size[0] * g.size[1], g.output[0] * g.output[1], g.kernel[0] * g.kernel[1]];
    const { names } = ROLES[node.op];
    const cut = (cells, size, n, shape) => plane(...shape, cells.slice(n * size, (n + 1) * size));
    const image = (role) => cut(record[names[role]], xs, j, g.size);
    const output = (role) => cut(record[names[role]], ys, i, g.output);
    const pair = i * share + c;
    const kernels = (cells) => cut(cells, ks, pair, g.kernel);
    const used = record.used || { kernel: kernel.cells, gradient: record.grads.kernel };
    const kAt = (a, b) => pair * ks + a * g.kernel[1] + b;
    const weight = (name) => (a, b) => `${this.path}/${name}[${kAt(a, b)}]`;
    const ofImage = (role) => (m, n) => `${this.path}/${names[role]}[${j * xs + m * g.size[1] + n}]`;
    const ofOutput = (role) => (p, q) => `${this.path}/${names[role]}[${i * ys + p * g.output[1] + q}]`;
    const within = (m, n) => m >= 0 && n >= 0 && m < g.size[0] && n < g.size[1];
    const kind = record.used ? "standardised_kernel" : "kernel";
    return {
      node, g, record, kernel, i, j, c, share, kAt, path: this.path, role: ROLES[node.op], symbols: symbolsOf(node),
      read: image("read"), kept: image("kept"), made: output("made"), sent: output("sent"), K: kernels(used.kernel), dK: kernels(used.gradient),
      // the weights themselves, which a layer may make its kernel of
      own: { K: kernels(kernel.cells), dK: kernels(record.grads.kernel), k: weight("kernel"), dk: weight("dkernel") },
      // names of cells, for numbers
      name: {
        read: (m, n) => (within(m, n) ? ofImage("read")(m, n) : "0"), kept: ofImage("kept"), made: ofOutput("made"), sent: ofOutput("sent"),
        k: weight(kind), dk: weight(`d${kind}`),
      },
    };
  }
}

/** What the window of the chosen output cell gives with the c-th channel that the filter reads. */
function windowSum(state, c) {
  const { read, K, g } = state.view(c);
  const [p, q] = state.element;
  let sum = 0;
  for (let a = 0; a < K.rows; a++)
    for (let b = 0; b < K.columns; b++) sum += cellAt(read, ...beneath(g, p, q, a, b)) * cellAt(K, a, b);
  return sum;
}

/** The cell of X that kernel cell (a, b) meets for output (p, q). */
function beneath(g, p, q, a, b) {
  return [
    p * g.stride[0] + a * g.dilation[0] - g.padding[0][0],
    q * g.stride[1] + b * g.dilation[1] - g.padding[1][0],
  ];
}

/** The [a, b] of K that lies on the cell (m, n) of X for output (p, q); [] where none does. */
function kernelCellAt(g, element, cell) {
  const found = cell.map((at, axis) => (at + g.padding[axis][0] - element[axis] * g.stride[axis]) / g.dilation[axis]);
  return found.every((at, axis) => Number.isInteger(at) && at >= 0 && at < g.kernel[axis]) ? found : [];
}

/** The frame of the window of output (p, q), in cells of X. */
function windowFrame(g, p, q) {
  const [row, column] = beneath(g, p, q, 0, 0);
  const [rows, columns] = g.kernel.map((size, axis) => (size - 1) * g.dilation[axis] + 1);
  return { row, column, rows, columns };
}

/** The outputs whose window has the cell (m, n) of X, each with the kernel cell that it meets there. */
function readersOf(g, m, n) {
  const found = [];
  for (let a = g.kernel[0] - 1; a >= 0; a--)
    for (let b = g.kernel[1] - 1; b >= 0; b--) {
      const p = (m + g.padding[0][0] - a * g.dilation[0]) / g.stride[0];
      const q = (n + g.padding[1][0] - b * g.dilation[1]) / g.stride[1];
      const whole = Number.isInteger(p) && Number.isInteger(q);
      if (whole && p >= 0 && q >= 0 && p < g.output[0] && q < g.output[1]) found.push({ p, q, a, b });
    }
  return found;
}
