// 1: dX in three ways, which give one number; of a transposed convolution Y.

const LAST = "the last one, K's bottom right";
const FIRST = "the first one, K's top left";

class RotationSection extends Section {
  constructor(state) {
    super({ id: "rotation", title: FORWARD.titles.rotation,
      options: [FIRST, LAST], expected: () => LAST });
    this.state = state;
    const select = (kind) => (m, n) => {
      state.cell = [m, n];
      state.show();
    };
    this.maps = Object.fromEntries(Object.keys(WAYS).map((way) => [way, new PlaneMap({ label: "∂E/∂X of this pair", onselect: select(way) })]));
    this.around = new PlaneMap({ label: "" });
    this.sent = new PlaneMap({ label: "∂E/∂Y", onselect: (...at) => {
      state.chooseElement(...at);
      state.show();
    } });
  }

  show(state) {
    const view = state.view();
    const [m, n] = state.cell;
    const { role, symbols } = view;
    const planes = Object.fromEntries(Object.entries(WAYS).map(([way, f]) => [way, f(view.sent, view.K, view.g)]));
    const name = () => `part(${view.path},${view.i},${view.j},${m},${n})`;
    const one = (way) => number(cellAt(planes[way], m, n), name(), 7);
    this.title.textContent = role.titles.rotation;
    for (const [way, map] of Object.entries(this.maps)) map.label = `${symbols.kept} of this pair`;
    this.fill(role.asks(m, n),
      paragraph(role.meets(m, n, view, readersOf(view.g, m, n).length)),
      element("p", { class: "same" }, "scatter ", one("scatter"), " = gather ", one("gather"), " = full convolution ", one("convolution")),
      this.scatter(state, view, planes.scatter, name), this.gather(state, view, planes.gather, name),
      this.convolution(state, view, planes.convolution, name), this.overFilters(state, view));
  }

  scatter(state, view, dX, name) {
    const [p, q] = state.element;
    const { role, symbols, name: names } = view;
    const value = cellAt(view.sent, p, q);
    const stamp = plane(view.K.rows, view.K.columns, view.K.cells.map((cell) => cell * value));
    const [m, n] = state.cell;
    return element("div", { class: "way" }, element("h3", {}, "Scatter: nothing is rotated"),
      paragraph(...role.stamps(p, q, number(value, names.sent(p, q)), symbols.kernel)),
      element("div", { class: "row" },
        this.sent.show(view.sent, { chosen: [p, q], name: names.sent, label: symbols.sent }),
        this.maps.scatter.show(dX, { chosen: [m, n], name, frames: [{ ...windowFrame(view.g, p, q), dashed: true }] }),
        gridTable(`this stamp, ${symbols.sent} × ${symbols.kernel}`, stamp, (a, b) => `${names.sent(p, q)} * ${names.k(a, b)}`,
          kernelCellAt(view.g, [p, q], [m, n]))));
  }

  gather(state, view, dX, name) {
    const { g, role, symbols } = view;
    const turned = rot180(spread(view.K, g.dilation));
    const [rows, columns] = [turned.rows - 1, turned.columns - 1];
    const around = padded(spread(view.sent, g.stride), [[rows, rows], [columns, columns]]);
    const [m, n] = state.cell;
    const [M, N] = [m + g.padding[0][0], n + g.padding[1][0]];
    const window = plane(turned.rows, turned.columns);
    window.cells.forEach((_, at) => (window.cells[at] = cellAt(around, M + Math.floor(at / turned.columns), N + (at % turned.columns))));
    const dyName = (a, b) => sentName(view, M + a - rows, N + b - columns);
    const kName = (a, b) => kernelName(view, rows - a, columns - b);
    const products = plane(turned.rows, turned.columns, window.cells.map((cell, at) => cell * turned.cells[at]));
    const met = state.element.map((at, axis) => at * g.stride[axis] - [M - rows, N - columns][axis]); // the same product as in the stamp
    const gaps = Math.max(...g.stride) > 1 ? ` Between its cells are ${g.stride.map((s) => s - 1).join(" and ")} zeros, where the stride passed by.` : "";
    return element("div", { class: "way" }, element("h3", {}, "Gather: correlation with the rotated kernel"),
      paragraph(`${role.collects(m, n)} reaches you with ${symbols.kernel}'s last cell, the one at your own place with its first: laid over ${symbols.sent}, what you read is ${symbols.kernel} turned by 180 degrees.${gaps}`),
      element("div", { class: "row" },
        this.around.show(around, { label: `${symbols.sent}, zeros around`, frames: [{ row: M, column: N, rows: turned.rows, columns: turned.columns }] }),
        gridTable(`${symbols.sent} in the frame`, window, dyName, met), gridTable(`${symbols.kernel}, rotated`, turned, kName, met),
        gridTable("products", products, (a, b) => `${dyName(a, b)} * ${kName(a, b)}`, met)),
      paragraph("Their sum is ", number(total(products.cells), name(), 7), "."));
  }

  convolution(state, view, dX, name) {
    const [m, n] = state.cell;
    const { symbols, name: names } = view;
    const terms = readersOf(view.g, m, n).map(({ p, q, a, b }) => ({
      label: `${symbols.place}[${p}, ${q}], ${symbols.kernel}[${a}, ${b}]`,
      parts: () => [number(cellAt(view.sent, p, q), names.sent(p, q)), number(cellAt(view.K, a, b), names.k(a, b))],
      value: cellAt(view.sent, p, q) * cellAt(view.K, a, b), name: `${names.sent(p, q)} * ${names.k(a, b)}`,
    }));
    return element("div", { class: "way" }, element("h3", {}, "Full convolution: the rotation is in the name"),
      paragraph(code(`${symbols.kept}[m, n] = Σ ${symbols.sent}[m − a, n − b] ${symbols.kernel}[a, b]`), ": the minus signs make it a convolution, the edges make it full. As a goes up, m − a goes down."),
      termTable(`the terms of ${symbols.kept}[${m}, ${n}]`, ["where", `${symbols.sent} × ${symbols.kernel}`, "product"], terms, number(cellAt(dX, m, n), name(), 7)));
  }

  overFilters(state, view) {
    const { g, role, symbols } = view;
    const [m, n] = state.cell;
    const perGroup = g.filters / g.groups;
    const first = Math.floor(view.i / perGroup) * perGroup;
    const whole = cellAt(view.kept, m, n);
    const terms = Array.from({ length: perGroup }, (_, at) => partOf(state, view, first + at)).map((value, at) => ({
      label: `${symbols.i} ${first + at}`, value, name: `part(${view.path},${first + at},${view.j},${m},${n})` }));
    const bias = role === BACK && biasOf(view, state);
    if (bias) terms.push({ label: bias.words, value: bias.value, name: `${view.path}/bias[${bias.place}]` });
    return terms.length > 1 && [paragraph(role.shares(perGroup, view, bias)),
      termTable(`${symbols.kept}[${m}, ${n}] from each ${symbols.i}`, ["from", "", "part"], terms, number(whole, view.name.kept(m, n), 7))];
  }
}

/** What filter i gives to the chosen cell of X; of a transposed one channel i to that of Y. */
function partOf(state, view, i) {
  const { g, kernel, record, role, share, c } = view;
  const sent = record[role.names.sent];
  const weights = record.used?.kernel ?? kernel.cells;
  const sizes = [g.output[0] * g.output[1], g.kernel[0] * g.kernel[1]];
  return readersOf(g, ...state.cell).reduce((sum, { p, q, a, b }) =>
    sum + sent[i * sizes[0] + p * g.output[1] + q] * weights[(i * share + c) * sizes[1] + a * g.kernel[1] + b], 0);
}

/** The name of a cell of what is sent, spread by the stride; "0" between its cells and beside them. */
function sentName({ g, name }, row, column) {
  const [p, q] = [row / g.stride[0], column / g.stride[1]];
  const there = Number.isInteger(p) && Number.isInteger(q) && p >= 0 && q >= 0 && p < g.output[0] && q < g.output[1];
  return there ? name.sent(p, q) : "0";
}

/** The name of a cell of K that is spread by the dilation. */
function kernelName({ g, name }, row, column) {
  const [a, b] = [row / g.dilation[0], column / g.dilation[1]];
  return Number.isInteger(a) && Number.isInteger(b) ? name.k(a, b) : "0";
}
