// A net with its weights, a picture and a target: forward, backward, differences, a step, and the comparison with NumPy.

/** The nodes of a net, containers after what they hold. */
function nodesOf(node) {
  const within = [...(node.children || []), ...(node.shortcut ? [node.shortcut] : [])];
  return [...within.flatMap(nodesOf), node];
}

/** The nodes of a net that hold no others, as they are gone through. */
const leavesOf = ({ nodes }) => nodes.filter((node) => !node.children);

class Network {
  /** @param data what the page was given: {net, weights, x, t, loss: {name, options}} */
  constructor(data) {
    this.net = data.net;
    this.loss = data.loss;
    this.nodes = nodesOf(this.net);
    this.weights = new Map(Object.entries(data.weights).map(([path, entry]) => [path, decoded(entry)]));
    for (const node of this.nodes)
      node.weights = Object.fromEntries(
        Object.entries(node.weights || {}).map(([name, path]) => [name, { path, ...this.weights.get(path) }]),
      );
    this.x = decoded(data.x).cells;
    this.inputs = data.inputs;
    this.t = decoded(data.t).cells;
    this.given = { x: this.x.slice(), t: this.t.slice() };
    for (const [path, weight] of this.weights) this.given[path] = weight.cells.slice();
  }

  /** The picture, the target and the weights as they were given. */
  reset() {
    this.x.set(this.given.x);
    this.t.set(this.given.t);
    for (const [path, weight] of this.weights) weight.cells.set(this.given[path]);
  }

  /** The outputs alone, and nothing kept. */
  predict(x = this.x) {
    const call = (node, input) => OPERATIONS[node.op](node, input, call);
    return call(this.net, x).y;
  }

  lossOf(y) {
    return LOSSES[this.loss.name](y, this.t, this.loss.options);
  }

  /** All that one way through and back gives: {loss, y, dy, dx, layers: Map of path to {x, y, dy, dx, grads}}. */
  run() {
    const layers = new Map();
    const call = (node, x) => {
      const record = { node, x };
      const { y, backward } = OPERATIONS[node.op](node, x, call);
      record.y = y;
      layers.set(node.path, record);
      return {
        y,
        backward(dy) {
          record.dy = dy;
          return Object.assign(record, backward(dy));
        },
      };
    };
    const { y, backward } = call(this.net, this.x);
    const loss = this.lossOf(y);
    const { dx } = backward(loss.dy);
    return { loss: loss.value, terms: loss.terms, y, dy: loss.dy, dx, layers };
  }

  /** (L(w + e) − L(w − e)) / 2e for one cell of an array that the loss depends on, with both losses; e is a share of a large w. */
  difference(cells, at) {
    const before = cells[at];
    const step = 1e-5 * Math.max(1, Math.abs(before));
    const moved = [step, -step].map((by) => {
      cells[at] = before + by;
      return this.lossOf(this.predict()).value;
    });
    cells[at] = before;
    return { above: moved[0], below: moved[1], slope: (moved[0] - moved[1]) / (2 * step), step };
  }

  /** One step of gradient descent: w ← w − rate dE/dw, for all weights. */
  descend(result, rate) {
    for (const { node, grads } of result.layers.values())
      for (const [name, gradient] of Object.entries(grads))
        gradient.forEach((value, n) => (node.weights[name].cells[n] -= rate * value));
  }
}

/** The array of a result that a path such as "conv1/dkernel", "conv1/dx" or "y" names. */
function arrayOf(result, path) {
  const cut = path.lastIndexOf("/");
  if (cut < 0) return path === "loss" ? Float64Array.of(result.loss) : result[path];
  const record = result.layers.get(path.slice(0, cut));
  const name = path.slice(cut + 1);
  return ["x", "y", "dx", "dy"].includes(name) ? sideBySide(record[name]) : record.grads[name.slice(1)];
}

/** The largest difference between this page's numbers and NumPy's, and how many were compared.
 *
 * Of numbers above 1 it is a share of the largest in their array: doubles have 16 digits, wherever the point stands. Of each array NumPy's page carries some cells, evenly spread, and the norm of all.
 */
function comparison(result, reference) {
  let [worst, count, where] = [0, 0, ""];
  for (const [path, { cells, norm: length }] of Object.entries(reference)) {
    const mine = arrayOf(result, path);
    const theirs = decoded(cells).cells;
    const pairs = [...theirs].map((value, n) => [value, mine[Math.floor((n * mine.length) / theirs.length)]]);
    const size = Math.max(1, largest(theirs));
    for (const [a, b, unit] of [...pairs.map((pair) => [...pair, size]), [length, norm(mine), Math.max(1, length)]]) {
      const off = Math.abs(a - b) / unit;
      if (!(off <= worst)) [worst, where] = [Number.isNaN(off) ? Infinity : off, path];
      count += 1;
    }
  }
  return { worst, count, where };
}
