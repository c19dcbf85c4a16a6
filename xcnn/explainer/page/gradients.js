// 4: the gradients of the kernel and of the bias.

class GradientsSection extends Section {
  constructor(state) {
    super({ id: "gradients", title: "4 · The gradients of the kernel and of the bias", expected: () => cellAt(state.view().dK, ...state.tap) });
    this.read = new PlaneMap({ label: "" });
    this.sent = new PlaneMap({ label: "", onselect: (...at) => {
      state.chooseElement(...at);
      state.show();
    } });
    this.dK = new PlaneMap({ label: "∂E/∂K", onselect: (...at) => {
      state.tap = at;
      state.show();
    } });
  }

  show(state) {
    const view = state.view();
    const { g, role, symbols, name: names } = view;
    const [a, b] = state.tap;
    const dk = `∂E/∂${symbols.kernel}`;
    const [row, column] = beneath(g, 0, 0, a, b);
    const area = { row, column, rows: (g.output[0] - 1) * g.stride[0] + 1, columns: (g.output[1] - 1) * g.stride[1] + 1 };
    const terms = [];
    for (let p = 0; p < g.output[0]; p++)
      for (let q = 0; q < g.output[1]; q++) {
        const [m, n] = beneath(g, p, q, a, b);
        const [x, dy] = [cellAt(view.read, m, n), cellAt(view.sent, p, q)];
        terms.push({ label: `${symbols.cell}[${m}, ${n}], ${symbols.place}[${p}, ${q}]`, parts: () => [number(x, names.read(m, n)), number(dy, names.sent(p, q))],
          value: x * dy, name: `${names.read(m, n)} * ${names.sent(p, q)}` });
      }
    this.fill(role.weighs(a, b).replaceAll("K[", `${symbols.kernel}[`),
      paragraph(code(`${dk} = ${symbols.read} ⋆ ${symbols.sent}`), `: ${role.slides}`, g.stride.some((s) => s > 1) ? ", its cells as far apart as the stride." : "."),
      element("div", { class: "row" },
        this.read.show(view.read, { frames: [area], label: `${symbols.read}, ${symbols.j} ${view.j}: what ${symbols.kernel}[${a}, ${b}] met`, palette: paletteOf(view.read) }),
        this.sent.show(view.sent, { chosen: state.element, name: names.sent, label: `${symbols.sent}, ${symbols.i} ${view.i}` }),
        this.dK.show(view.dK, { chosen: [a, b], name: names.dk, label: `${dk}, ${symbols.i} ${view.i}, ${symbols.j} ${view.j}` })),
      termTable(`${dk}[${a}, ${b}]${terms.length > 1 ? `: the largest of ${terms.length} terms` : ""}`, ["where", `${symbols.read} × ${symbols.sent}`, "product"], terms, number(cellAt(view.dK, a, b), names.dk(a, b), 7)),
      backThroughHat(view, state.tap), this.bias(state, view));
  }

  bias(state, view) {
    const { record, role, path, i, j } = view;
    const bias = biasOf(view, state);
    const heading = element("h3", {}, "The bias");
    if (!bias) return [heading, paragraph("This layer has none.")];
    const { place, tied, at: [p, q], outputs } = bias;
    const value = number(record.grads.bias[place], `${path}/dbias[${place}]`, 7);
    const [dY, name, filter] = role === BACK ? [view.read, view.name.read, j] : [view.sent, view.name.sent, i];
    if (!tied)
      return [heading, paragraph(`It is untied: Y[${p}, ${q}] has one of its own, which stands in its equation alone. So ∂E/∂B = ∂E/∂Y, here `, value, " = ",
        number(cellAt(dY, p, q), name(p, q), 7), ".")];
    return [heading, paragraph(`One bias serves all ${outputs} outputs of filter ${filter}, and stands in all their equations. So their gradients are summed: ∂E/∂B = Σ ∂E/∂Y = `,
      number(total(dY.cells), `${path}/dbias[${place}]`, 7), " = ", value, ".")];
  }
}
