// 4: the gradients of the kernel and of the bias.

class GradientsSection extends Section {
  constructor(state) {
    super({ id: "gradients", title: "4 · The gradients of the kernel and of the bias", expected: () => cellAt(state.view().dK, ...state.tap) });
    this.X = new PlaneMap({ label: "X" });
    this.dY = new PlaneMap({ label: "∂E/∂Y", onselect: (...at) => {
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
    const { g } = view;
    const [a, b] = state.tap;
    const [row, column] = beneath(g, 0, 0, a, b);
    const area = { row, column, rows: (g.output[0] - 1) * g.stride[0] + 1, columns: (g.output[1] - 1) * g.stride[1] + 1 };
    const terms = [];
    for (let p = 0; p < g.output[0]; p++)
      for (let q = 0; q < g.output[1]; q++) {
        const [m, n] = beneath(g, p, q, a, b);
        const [x, dy] = [cellAt(view.X, m, n), cellAt(view.dY, p, q)];
        terms.push({ label: `X[${m}, ${n}], Y[${p}, ${q}]`, parts: () => [number(x, view.x(m, n)), number(dy, view.dy(p, q))],
          value: x * dy, name: `${view.x(m, n)} * ${view.dy(p, q)}` });
      }
    this.fill(
      `K[${a}, ${b}] was multiplied with every cell in the frame in X, once for each output. What is ∂E/∂K[${a}, ${b}], the sum of those cells times their outputs' gradients?`,
      paragraph(code("∂E/∂K = X ⋆ ∂E/∂Y"), ": the gradient has become the kernel that slides over X", g.stride.some((s) => s > 1) ? ", its cells as far apart as the stride." : "."),
      element("div", { class: "row" },
        this.X.show(view.X, { frames: [area], label: `X, channel ${view.j}: what K[${a}, ${b}] met`, palette: paletteOf(view.X) }),
        this.dY.show(view.dY, { chosen: state.element, name: view.dy, label: `∂E/∂Y, filter ${view.i}` }),
        this.dK.show(view.dK, { chosen: [a, b], name: view.dk, label: `∂E/∂K, filter ${view.i}, channel ${view.j}` })),
      termTable(`∂E/∂K[${a}, ${b}]${terms.length > 1 ? `: the largest of ${terms.length} terms` : ""}`, ["where", "X × ∂E/∂Y", "product"], terms, number(cellAt(view.dK, a, b), view.dk(a, b), 7)),
      this.bias(state, view));
  }

  bias(state, view) {
    const { bias } = view.node.weights;
    const { g, record, i, path } = view;
    const [p, q] = state.element;
    const heading = element("h3", {}, "The bias");
    if (!bias) return [heading, paragraph("This layer has none.")];
    const place = biasPlace(view, p, q);
    const value = number(record.grads.bias[place], `${path}/dbias[${place}]`, 7);
    if (bias.cells.length !== g.filters)
      return [heading, paragraph(`It is untied: Y[${p}, ${q}] has one of its own, which stands in its equation alone. So ∂E/∂B = ∂E/∂Y, here `, value, " = ",
        number(cellAt(view.dY, p, q), view.dy(p, q), 7), ".")];
    return [heading, paragraph(`One bias serves all ${g.output.join(" × ")} outputs of filter ${i}, and stands in all their equations. So their gradients are summed: ∂E/∂B = Σ ∂E/∂Y = `,
      number(total(view.dY.cells), `${path}/dbias[${place}]`, 7), " = ", value, ".")];
  }
}
