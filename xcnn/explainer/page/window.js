// 2: one output, as the sum of a window times the kernel.

class WindowSection extends Section {
  constructor(state) {
    super({ id: "window", title: FORWARD.titles.window, expected: () => cellAt(state.view().made, ...state.element) });
    this.read = new PlaneMap({ label: "X", onselect: (...at) => {
      state.cell = at;
      state.show();
    } });
    this.made = new PlaneMap({ label: "Y", onselect: (...at) => {
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
    const { g, read, made, K, role, symbols, name: names } = view;
    const [p, q] = state.element;
    const at = (a, b) => beneath(g, p, q, a, b);
    const window = plane(K.rows, K.columns);
    window.cells.forEach((_, n) => (window.cells[n] = cellAt(read, ...at(Math.floor(n / K.columns), n % K.columns))));
    const products = plane(K.rows, K.columns, window.cells.map((cell, n) => cell * K.cells[n]));
    this.title.textContent = role.titles.window;
    enter(this.field.input, cellAt(view.own.K, ...state.tap));
    this.fill(role.lays(p, q, view),
      element("div", { class: "row" },
        this.read.show(read, { chosen: state.cell, name: names.read, frames: [windowFrame(g, p, q)], label: `${symbols.read}, ${symbols.j} ${view.j}`, palette: paletteOf(read) }),
        this.K.show(K, { chosen: state.tap, name: names.k, label: `${symbols.kernel}, ${symbols.i} ${view.i}, ${symbols.j} ${view.j}` }),
        this.made.show(made, { chosen: [p, q], name: names.made, label: `${symbols.made}, ${symbols.i} ${view.i}` })),
      element("div", { class: "row" }, this.field.root),
      element("div", { class: "row" },
        gridTable(`the window of ${symbols.read}`, window, (a, b) => names.read(...at(a, b)), state.tap),
        this.behind("×", gridTable(symbols.kernel, K, names.k, state.tap)),
        this.behind("=", gridTable("products", products, (a, b) => `${names.read(...at(a, b))} * ${names.k(a, b)}`, state.tap))),
      this.sums(state, view), madeHat(view, state.tap));
  }

  /** A table with the sign that stands before it: both go to the next line, or none. */
  behind(sign, shown) {
    return element("div", { class: "together" }, element("span", { class: "sign" }, sign), shown);
  }

  sums(state, view) {
    const [p, q] = state.element;
    const { role, symbols } = view;
    const first = view.j - view.c;
    const terms = Array.from({ length: view.share }, (_, c) => ({
      label: `${symbols.j} ${first + c}`, value: windowSum(state, c), name: `window(${view.path},${view.i},${first + c},${p},${q})` }));
    const bias = role === FORWARD && biasOf(view, state);
    if (bias) terms.push({ label: bias.words, value: bias.value, name: `${view.path}/bias[${bias.place}]` });
    return termTable(`${symbols.made}[${p}, ${q}] of ${symbols.i} ${view.i}`, ["from", "", "sum"], terms, number(cellAt(view.made, p, q), view.name.made(p, q), 7));
  }
}
