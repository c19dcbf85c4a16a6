// 5: do you believe it? Each weight's finite difference beside its gradient.

const SMALL = "So small a change is lost in the last digits of what the loss is computed from.";

/** What is to be said of a difference that is apart from its gradient; "" of one that is not. */
function apartBecause({ above, below, slope, step }, { loss, y }, gradient) {
  const off = Math.abs(slope - gradient);
  if (off <= 1e-4 * Math.abs(gradient)) return "";
  if (off <= (1e-15 * Math.max(1, largest(y))) / step) return gradient === 0 ? "" : SMALL;
  if (off <= 1e-6) return "";
  if (off <= (1e-14 * Math.max(Math.abs(above), Math.abs(below))) / step) return "The loss is so large that its change is lost in its last digits.";
  const [right, left] = [(above - loss) / step, (loss - below) / step].map((each) => written(each));
  return `The loss has a corner here, of a ReLU, a maximum or |x|, or bends much: its slope is ${right} to the right and ${left} to the left. The gradient is that of one side, or lies between.`;
}

/** Products that differences may take without being asked for: a browser makes some hundred million in a second. */
const PATIENCE = 2e8;
/** Weights of a kernel that paper has. */
const PAPER_ROWS = 36;

class DifferencesSection extends Section {
  constructor(state, data) {
    super({ id: "differences", title: "5 · Do you believe the gradients?", options: ["it rises", "it falls", "it stays"],
      expected: () => ["it falls", "it stays", "it rises"][Math.sign(cellAt(state.view().own.dK, ...state.tap)) + 1] });
    Object.assign(this, { state, data, kernelAsked: false, any: { path: "", at: 0 } });
    const paths = [...state.network.weights.keys()];
    const pick = choice("Any weight", ["choose …", ...paths], (n) => this.pick(n ? paths[n - 1] : "", 0));
    this.at = numberField("its cell", (value) => this.pick(this.any.path, value), { min: 0, step: 1, value: 0 });
    this.found = element("p", { "aria-live": "polite" });
    this.picker = element("div", { class: "row" }, pick.root, this.at.root);
  }

  pick(path, at) {
    this.any = { path, at };
    this.found.replaceChildren(...(path ? this.ofAny() : []));
  }

  ofAny() {
    const { network, result } = this.state;
    const { cells, shape } = network.weights.get(this.any.path);
    const at = Math.min(Math.max(Math.round(this.any.at), 0), cells.length - 1);
    const cut = this.any.path.lastIndexOf("/");
    const gradient = arrayOf(result, `${this.any.path.slice(0, cut)}/d${this.any.path.slice(cut + 1)}`)?.[at];
    const where = `${this.any.path}[${indicesOf(at, shape).join(", ")}] = ${written(cells[at])}`;
    if (gradient === undefined) return [`${where} is a statistic: no gradient trains it.`];
    const found = network.difference(cells, at);
    return [`${where}: difference `, number(found.slope, `difference(${this.any.path}[${at}])`, 7), ", gradient ",
      number(gradient, `${this.any.path.slice(0, cut)}/d${this.any.path.slice(cut + 1)}[${at}]`, 7), ". ", apartBecause(found, result, gradient)];
  }

  show(state) {
    const view = state.view();
    const [a, b] = state.tap;
    const { network } = state;
    const chosen = network.difference(view.kernel.cells, view.kAt(a, b));
    const digits = 12;
    const cells = this.cellsShown(view);
    const many = cells.length * 2 * this.data.products > PATIENCE && !this.kernelAsked;
    this.fill(
      `∂E/∂K[${a}, ${b}] = ${written(cellAt(view.own.dK, a, b))}. If K[${a}, ${b}] is made a little larger, what does the loss do?`,
      paragraph("A gradient says how much the loss changes with a weight. So change it, by ", code(`e = ${written(chosen.step, 1)}`), " both ways, compute the loss anew, and see:"),
      paragraph(`L(K[${a}, ${b}] + e) = `, number(chosen.above, "", digits), ",  ", `L(K[${a}, ${b}] − e) = `, number(chosen.below, "", digits), ", and ",
        code("(L(w + e) − L(w − e)) / 2e"), " = ", number(chosen.slope, `difference(${view.own.k(a, b)})`, 7), ", where the gradient is ",
        number(cellAt(view.own.dK, a, b), view.own.dk(a, b), 7), ". ", apartBecause(chosen, state.result, cellAt(view.own.dK, a, b))),
      many
        ? button(`Compute all ${view.own.K.rows * view.own.K.columns} of this kernel`, () => {
          this.kernelAsked = true;
          state.show();
        })
        : this.ofKernel(state, view, cells),
      element("h3", { class: this.any.path ? undefined : "control" }, "Any weight of the net"), this.picker, this.found);
    if (this.any.path) this.pick(this.any.path, this.any.at);
  }

  /** The kernel's cells that are shown: all, and on paper those with the largest gradients. */
  cellsShown({ own: { dK: { cells } } }) {
    const all = [...cells.keys()];
    if (!onPaper() || all.length <= PAPER_ROWS) return all;
    return all.sort((a, b) => Math.abs(cells[b]) - Math.abs(cells[a])).slice(0, PAPER_ROWS).sort((a, b) => a - b);
  }

  ofKernel(state, view, cells) {
    let corners = 0;
    const rows = cells.map((at) => {
      const [a, b] = [Math.floor(at / view.own.K.columns), at % view.own.K.columns];
      const found = state.network.difference(view.kernel.cells, view.kAt(a, b));
      const { slope } = found;
      const gradient = view.own.dK.cells[at];
      corners += apartBecause(found, state.result, gradient) !== "";
      return [`K[${a}, ${b}]`, number(view.own.K.cells[at], view.own.k(a, b)), number(slope, `difference(${view.own.k(a, b)})`, 7),
        number(gradient, view.own.dk(a, b), 7), written(Math.abs(slope - gradient), 1)];
    });
    const count = view.own.K.cells.length;
    const caption = cells.length < count ? `${cells.length} of the ${count} weights of this kernel, those with the largest gradients` : "each weight of this kernel";
    const found = table(caption, ["weight", "value", "difference", "gradient", "apart by"], rows);
    if (!corners) return found;
    return element("div", {}, found, paragraph(`${corners === 1 ? "One is" : `${corners} are`} apart. Choose such a cell of K above, and it is said why.`));
  }
}
