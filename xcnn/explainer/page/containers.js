// What layers compute that hold others: chains, branches, graphs. `call(node, x)` computes a layer within, and keeps its record.
//
// Where a layer is given several values x is a list of arrays, and so is dx.

/** The value, or the several values side by side in one array. */
function sideBySide(values) {
  if (!Array.isArray(values)) return values;
  const all = new Float64Array(total(values.map((each) => each.length)));
  let from = 0;
  for (const each of values) {
    all.set(each, from);
    from += each.length;
  }
  return all;
}

/** The arrays of these lengths that lie side by side. */
function apart(cells, lengths) {
  let from = 0;
  return lengths.map((length) => cells.slice(from, (from += length)));
}

/** The sum of arrays, cell by cell. */
const summedUp = (arrays) => arrays.reduce((sum, each) => sum.map((value, n) => value + each[n]));

/** How one value is made of several: each takes the node and the values, and gives {y, split}; split(dy) gives their gradients.
 *
 * `view` is the shape of y, `axes[k]` those axes of it that value k has: it counts in every cell along the others.
 */
const JOINS = {
  add({ view, axes }, values) {
    const places = axes.map((own) => placesOver(view, own));
    const y = new Float64Array(cellsOf(view));
    values.forEach((value, at) => y.forEach((_, n) => (y[n] += value[places[at][n]])));
    const split = (dy) =>
      values.map((value, at) => {
        const part = new Float64Array(value.length);
        dy.forEach((slope, n) => (part[places[at][n]] += slope));
        return part;
      });
    return { y, split };
  },

  multiply({ view, axes }, values) {
    const places = axes.map((own) => placesOver(view, own));
    const factor = (at, n) => values[at][places[at][n]];
    const product = (n, without) => values.reduce((part, _, at) => (at === without ? part : part * factor(at, n)), 1);
    const split = (dy) =>
      values.map((value, at) => {
        const part = new Float64Array(value.length);
        dy.forEach((slope, n) => (part[places[at][n]] += slope * product(n, at)));
        return part;
      });
    return { y: Float64Array.from({ length: cellsOf(view) }, (_, n) => product(n)), split };
  },

  concatenate(_, values) {
    return { y: sideBySide(values), split: (dy) => apart(dy, values.map((each) => each.length)) };
  },
};

Object.assign(OPERATIONS, {
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
    const beside = shortcut ? call(shortcut, x) : OPERATIONS.moved({}, x);
    const backward = (dy) => {
      const other = beside.backward(dy).dx;
      return { dx: summedUp([body.backward(dy).dx, other]), grads: {} };
    };
    return { y: summedUp([body.y, beside.y]), backward };
  },

  /** Add, Multiply and Concatenate: branches that all see X, and their outputs made one. */
  branches(node, x, call) {
    const branches = node.children.map((child) => call(child, x));
    const { y, split } = JOINS[node.join](node, branches.map((branch) => branch.y));
    const backward = (dy) => ({ dx: summedUp(split(dy).map((part, n) => branches[n].backward(part).dx)), grads: {} });
    return { y, backward };
  },

  /** The same of values that are given, in a graph. */
  join(node, values) {
    const { y, split } = JOINS[node.join](node, values);
    return { y, backward: (dy) => ({ dx: split(dy), grads: {} }) };
  },

  /** Graph: layers that take each other's values by name; gradients of what is taken several times add up.
   *
   * The net itself may have several inputs and outputs, which then lie side by side in x and y: `packed` has their shapes.
   */
  graph({ children, inputs, outputs, packed = {} }, x, call) {
    const given = packed.inputs ? apart(x, packed.inputs.map(cellsOf)) : inputs.length > 1 ? x : [x];
    const values = new Map(inputs.map((name, n) => [name, given[n]])); // no object: "constructor" is a name too
    const backwards = [];
    for (const child of children) {
      const taken = child.takes.map((name) => values.get(name));
      const { y, backward } = call(child, taken.length > 1 ? taken : taken[0]);
      values.set(child.name, y);
      backwards.push([child, backward]);
    }
    const made = outputs.map((name) => values.get(name));
    const backward = (dy) => {
      const slopes = new Map();
      const enter = (name, slope) => slopes.set(name, slopes.has(name) ? summedUp([slopes.get(name), slope]) : slope);
      const dys = packed.outputs ? apart(dy, packed.outputs.map(cellsOf)) : [dy];
      outputs.forEach((name, n) => enter(name, dys[n]));
      for (const [child, back] of [...backwards].reverse()) {
        const { dx } = back(slopes.get(child.name));
        child.takes.forEach((name, n) => enter(name, child.takes.length > 1 ? dx[n] : dx));
      }
      const dx = inputs.map((name) => slopes.get(name));
      return { dx: packed.inputs ? sideBySide(dx) : inputs.length > 1 ? dx : dx[0], grads: {} };
    };
    return { y: packed.outputs ? sideBySide(made) : made[0], backward };
  },
});
