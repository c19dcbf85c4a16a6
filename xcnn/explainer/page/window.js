// 2: one output, as the sum of a window times the kernel.

class WindowSection extends Section {
  constructor(state) {
    super({ id: "window", title: "2 · What is one output made of?", expected: () => cellAt(state.view().Y, ...state.element) });
    this.X = new PlaneMap({ label: "X", onselect: (...at) => {
      state.cell = at;
      state.show();
    } });
    this.Y = new PlaneMap({ label: "Y", onselect: (...at) => {
      state.chooseElement(...at);
      state.show();
    } });
    this.K = new PlaneMap({ label: "K", onselect: (...at) => {
      state.tap = at;
      state.show();
    } });
    this.field = numberField("Value of the chosen cell of K", (value) => {
      const view = state.view();
      view.kernel.cells[view.kAt(...state.tap)] = value;
      state.changed();
    });
  }

  show(state) {
    const view = state.view();
    const { g, X, Y, K } = view;
    const [p, q] = state.element;
    const at = (a, b) => beneath(g, p, q, a, b);
    const window = plane(K.rows, K.columns);
    window.cells.forEach((_, n) => (window.cells[n] = cellAt(X, ...at(Math.floor(n / K.columns), n % K.columns))));
    const products = plane(K.rows, K.columns, window.cells.map((cell, n) => cell * K.cells[n]));
    enter(this.field.input, cellAt(K, ...state.tap));
    this.fill(
      `Lay K on the frame in X, multiply what lies on each other, add, and add the bias. What is Y[${p}, ${q}] of filter ${view.i}?`,
      element("div", { class: "row" },
        this.X.show(X, { chosen: state.cell, name: view.x, frames: [windowFrame(g, p, q)], label: `X, channel ${view.j}`, palette: paletteOf(X) }),
        this.K.show(K, { chosen: state.tap, name: view.k, label: `K, filter ${view.i}, channel ${view.j}` }),
        this.Y.show(Y, { chosen: [p, q], name: view.y, label: `Y, filter ${view.i}` })),
      element("div", { class: "row" }, this.field.root),
      element("div", { class: "row" },
        gridTable("the window of X", window, (a, b) => view.x(...at(a, b)), state.tap),
        this.behind("×", gridTable("K", K, view.k, state.tap)),
        this.behind("=", gridTable("products", products, (a, b) => `${view.x(...at(a, b))} * ${view.k(a, b)}`, state.tap))),
      this.sums(state, view));
  }

  /** A table with the sign that stands before it: both go to the next line, or none. */
  behind(sign, shown) {
    return element("div", { class: "together" }, element("span", { class: "sign" }, sign), shown);
  }

  sums(state, view) {
    const [p, q] = state.element;
    const first = view.j - view.c;
    const terms = Array.from({ length: view.share }, (_, c) => ({
      label: `channel ${first + c}`, value: windowSum(state, c), name: `window(${view.path},${view.i},${first + c},${p},${q})` }));
    const { bias } = view.node.weights;
    if (bias) {
      const place = biasPlace(view, p, q);
      terms.push({ label: bias.cells.length === view.g.filters ? `bias of filter ${view.i}` : `bias of this output`,
        value: bias.cells[place], name: `${view.path}/bias[${place}]` });
    }
    return termTable(`Y[${p}, ${q}] of filter ${view.i}`, ["from", "", "sum"], terms, number(cellAt(view.Y, p, q), view.y(p, q), 7));
  }
}

/** The place of the bias of an output cell of the chosen filter: each has its own where the bias is untied. */
function biasPlace({ g, i, node }, p, q) {
  return node.weights.bias.cells.length === g.filters ? i : (i * g.output[0] + p) * g.output[1] + q;
}
