// 1: dX in three ways, which give one number.

const LAST = "the last one, K's bottom right";
const FIRST = "the first one, K's top left";

class RotationSection extends Section {
  constructor(state) {
    super({ id: "rotation", title: "1 · Why is the kernel rotated on the way back?",
      options: [FIRST, LAST], expected: () => LAST });
    this.state = state;
    const select = (kind) => (m, n) => {
      state.cell = [m, n];
      state.show();
    };
    this.maps = Object.fromEntries(Object.keys(WAYS).map((way) => [way, new PlaneMap({ label: "∂E/∂X of this pair", onselect: select(way) })]));
    this.around = new PlaneMap({ label: "∂E/∂Y, zeros around" });
    this.dY = new PlaneMap({ label: "∂E/∂Y", onselect: (...at) => {
      state.chooseElement(...at);
      state.show();
    } });
  }

  show(state) {
    const view = state.view();
    const [m, n] = state.cell;
    const planes = Object.fromEntries(Object.entries(WAYS).map(([way, f]) => [way, f(view.dY, view.K, view.g)]));
    const name = () => `part(${view.path},${view.i},${view.j},${m},${n})`;
    const one = (way) => number(cellAt(planes[way], m, n), name(), 7);
    this.fill(
      `Of all windows that have the cell X[${m}, ${n}] in them, the one that begins furthest up and to the left: which cell of K lies on X[${m}, ${n}] there?`,
      paragraph(`X[${m}, ${n}] of channel ${view.j} has a part in ${readersOf(view.g, m, n).length === 1 ? "1 output" : `${readersOf(view.g, m, n).length} outputs`} of filter ${view.i}. Its gradient from them, in three ways:`),
      element("p", { class: "same" }, "scatter ", one("scatter"), " = gather ", one("gather"), " = full convolution ", one("convolution")),
      this.scatter(state, view, planes.scatter, name), this.gather(state, view, planes.gather, name),
      this.convolution(state, view, planes.convolution, name), this.overFilters(state, view));
  }

  scatter(state, view, dX, name) {
    const [p, q] = state.element;
    const value = cellAt(view.dY, p, q);
    const stamp = plane(view.K.rows, view.K.columns, view.K.cells.map((cell) => cell * value));
    const [m, n] = state.cell;
    return element("div", { class: "way" }, element("h3", {}, "Scatter: nothing is rotated"),
      paragraph(`Y[${p}, ${q}] read the window in the frame with the weights K. So ∂E/∂Y[${p}, ${q}] = `, number(value, view.dy(p, q)),
        " goes back to the same window with the same weights: it stamps K there. All stamps add up."),
      element("div", { class: "row" },
        this.dY.show(view.dY, { chosen: [p, q], name: view.dy }),
        this.maps.scatter.show(dX, { chosen: [m, n], name, frames: [{ ...windowFrame(view.g, p, q), dashed: true }] }),
        gridTable("this stamp, ∂E/∂Y × K", stamp, (a, b) => `${view.dy(p, q)} * ${view.k(a, b)}`,
          kernelCellAt(view.g, [p, q], [m, n]))));
  }

  gather(state, view, dX, name) {
    const { g } = view;
    const turned = rot180(spread(view.K, g.dilation));
    const [rows, columns] = [turned.rows - 1, turned.columns - 1];
    const around = padded(spread(view.dY, g.stride), [[rows, rows], [columns, columns]]);
    const [m, n] = state.cell;
    const [M, N] = [m + g.padding[0][0], n + g.padding[1][0]];
    const window = plane(turned.rows, turned.columns);
    window.cells.forEach((_, at) => (window.cells[at] = cellAt(around, M + Math.floor(at / turned.columns), N + (at % turned.columns))));
    const dyName = (a, b) => gradientName(view, M + a - rows, N + b - columns);
    const kName = (a, b) => kernelName(view, rows - a, columns - b);
    const products = plane(turned.rows, turned.columns, window.cells.map((cell, at) => cell * turned.cells[at]));
    const met = state.element.map((at, axis) => at * g.stride[axis] - [M - rows, N - columns][axis]); // the same product as in the stamp
    const gaps = Math.max(...g.stride) > 1 ? ` Between its cells are ${g.stride.map((s) => s - 1).join(" and ")} zeros, where the stride passed by.` : "";
    return element("div", { class: "way" }, element("h3", {}, "Gather: correlation with the rotated kernel"),
      paragraph(`Stand on X[${m}, ${n}] and collect. The output that began furthest up and left reaches you with K's last cell, the one at your own place with its first: laid over ∂E/∂Y, what you read is K turned by 180 degrees.${gaps}`),
      element("div", { class: "row" },
        this.around.show(around, { frames: [{ row: M, column: N, rows: turned.rows, columns: turned.columns }] }),
        gridTable("∂E/∂Y in the frame", window, dyName, met), gridTable("K, rotated", turned, kName, met),
        gridTable("products", products, (a, b) => `${dyName(a, b)} * ${kName(a, b)}`, met)),
      paragraph("Their sum is ", number(total(products.cells), name(), 7), "."));
  }

  convolution(state, view, dX, name) {
    const [m, n] = state.cell;
    const terms = readersOf(view.g, m, n).map(({ p, q, a, b }) => ({
      label: `Y[${p}, ${q}], K[${a}, ${b}]`,
      parts: () => [number(cellAt(view.dY, p, q), view.dy(p, q)), number(cellAt(view.K, a, b), view.k(a, b))],
      value: cellAt(view.dY, p, q) * cellAt(view.K, a, b), name: `${view.dy(p, q)} * ${view.k(a, b)}`,
    }));
    return element("div", { class: "way" }, element("h3", {}, "Full convolution: the rotation is in the name"),
      paragraph(code("∂E/∂X[m, n] = Σ ∂E/∂Y[m − a, n − b] K[a, b]"), ": the minus signs make it a convolution, the edges make it full. As a goes up, the output goes down."),
      termTable(`the terms of ∂E/∂X[${m}, ${n}]`, ["where", "∂E/∂Y × K", "product"], terms, number(cellAt(dX, m, n), name(), 7)));
  }

  overFilters(state, view) {
    const { g, record } = view;
    const [m, n] = state.cell;
    const perGroup = g.filters / g.groups;
    const first = Math.floor(view.i / perGroup) * perGroup;
    const whole = cellAt(view.dX, m, n);
    const terms = Array.from({ length: perGroup }, (_, at) => partOf(state, view, first + at)).map((value, at) => ({
      label: `filter ${first + at}`, value, name: `part(${view.path},${first + at},${view.j},${m},${n})` }));
    return perGroup > 1 && [paragraph(`Channel ${view.j} is read by ${perGroup} filters, and collects from all of them:`),
      termTable(`∂E/∂X[${m}, ${n}] from each filter`, ["from", "", "part"], terms, number(whole, view.dx(m, n), 7))];
  }
}

/** What filter i gives to the chosen cell of X. */
function partOf(state, view, i) {
  const { g, kernel, record, share, c } = view;
  const sizes = [g.output[0] * g.output[1], g.kernel[0] * g.kernel[1]];
  return readersOf(g, ...state.cell).reduce((sum, { p, q, a, b }) =>
    sum + record.dy[i * sizes[0] + p * g.output[1] + q] * kernel.cells[(i * share + c) * sizes[1] + a * g.kernel[1] + b], 0);
}

/** The name of a cell of ∂E/∂Y that is spread by the stride; "0" between its cells and beside them. */
function gradientName({ g, dy }, row, column) {
  const [p, q] = [row / g.stride[0], column / g.stride[1]];
  const there = Number.isInteger(p) && Number.isInteger(q) && p >= 0 && q >= 0 && p < g.output[0] && q < g.output[1];
  return there ? dy(p, q) : "0";
}

/** The name of a cell of K that is spread by the dilation. */
function kernelName({ g, k }, row, column) {
  const [a, b] = [row / g.dilation[0], column / g.dilation[1]];
  return Number.isInteger(a) && Number.isInteger(b) ? k(a, b) : "0";
}
