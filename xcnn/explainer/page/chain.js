// 7: the chain, from the loss to the first kernel, step by step.

const BACKWARD = {
  correlate: "∂E/∂X = ∂E/∂Y ∗ K, full;  ∂E/∂K = X ⋆ ∂E/∂Y",
  transpose: "∂E/∂X = ∂E/∂Y ⋆ K;  ∂E/∂K = ∂E/∂Y ⋆ X",
  dense: "∂E/∂X = ∂E/∂Y Wᵀ;  ∂E/∂W = Xᵀ ∂E/∂Y",
  max_pool: "∂E/∂X = ∂E/∂Y where the largest cell stood, else 0",
  moved: "∂E/∂X = ∂E/∂Y, each cell where it came from",
  two_sided: "Y = A X Bᵀ, means or lines between cells:  ∂E/∂X = Aᵀ ∂E/∂Y B",
  scale: "∂E/∂X = scale ∂E/∂Y",
  prelu: "∂E/∂X = ∂E/∂Y where X > 0, else a ∂E/∂Y",
  add: "each value gets ∂E/∂Y, summed along the axes that it lacks",
  multiply: "each value gets ∂E/∂Y times the others, summed along the axes that it lacks",
  concatenate: "each value gets its own part of ∂E/∂Y",
  activation: "∂E/∂X = ∂E/∂Y ⊙ f′(X)",
  softmax: "∂E/∂X = p ⊙ (∂E/∂Y − Σ ∂E/∂Y p), and of its logarithm ∂E/∂Y − p Σ ∂E/∂Y",
  batch_norm: "∂E/∂X = ∂E/∂Y scale / √(variance + ε)",
  standardised_correlate: "K̂ = (K − mean) / √(variance + ε):  ∂E/∂X = ∂E/∂Y ∗ K̂, full;  ∂E/∂K from ∂E/∂K̂ = X ⋆ ∂E/∂Y as of a norm",
  local_response: "S = k + α/n Σ X² of neighbouring channels, Y = X / S^β:  ∂E/∂X = ∂E/∂Y / S^β − 2αβ/n X Σ ∂E/∂Y X / S^(β+1)",
  standardise: "∂E/∂X = (∂E/∂X̂ − mean − X̂ mean(∂E/∂X̂ X̂)) / √(variance + ε)",
};

class ChainSection extends Section {
  constructor(state) {
    super({ id: "chain", title: "7 · The chain, from the loss to the first kernel", 
      options: leavesOf(state.network).map((node) => node.path), expected: () => this.layers[0].path });
    this.state = state;
    this.layers = leavesOf(state.network).reverse();
    this.step = 0;
    this.slider = element("input", { type: "range", min: 0, max: this.layers.length - 1, value: 0, "aria-label": "step of the chain",
      oninput: () => this.go(this.slider.valueAsNumber) });
    this.dY = new PlaneMap({ label: "∂E/∂Y" });
    this.dX = new PlaneMap({ label: "∂E/∂X" });
    this.panel = element("div", { class: "way", "aria-live": "polite" });
    this.steps = element("div", { class: "row" }, button("◀ Back", () => this.go(this.step - 1)), this.slider,
      button("On ▶", () => this.go(this.step + 1)));
  }

  go(step) {
    this.step = Math.min(Math.max(step, 0), this.layers.length - 1);
    this.slider.value = this.step;
    this.showStep(this.state);
  }

  showStep(state) {
    const node = this.layers[this.step];
    const { y, x, dy, dx, grads } = state.result.layers.get(node.path);
    this.slider.setAttribute("aria-valuetext", node.path);
    const best = (cells, shape) => {
      const planes = planesOfAll(cells, shape);
      const n = placeOfLargest(Float64Array.from(planes.map((each) => norm(each.cells))));
      return [planes[n], planes.length > 1 ? `, map ${n}` : ""];
    };
    const [[dY, ofY], [dX, ofX]] = [best(dy, node.output), best(dx, node.input)];
    const one = placeOfLargest(dy);
    this.panel.replaceChildren(
      element("h3", {}, `Step ${this.step + 1} of ${this.layers.length}: back through ${node.path}, ${node.kind}`),
      paragraph(code(BACKWARD[node.op === "join" ? node.join : node.op])),
      element("div", { class: "row" }, this.dY.show(dY, { label: `∂E/∂Y it is given${ofY}` }), element("span", { class: "sign" }, "→"),
        this.dX.show(dX, { label: `∂E/∂X it hands on${ofX}` })),
      node.op === "activation"
        ? paragraph(`At cell ${one}: X = `, number(x[one], `${node.path}/x[${one}]`), ", Y = ", number(y[one], `${node.path}/y[${one}]`), "; ∂E/∂Y = ",
          number(dy[one], `${node.path}/dy[${one}]`), " times the slope ", number(ACTIVATIONS[node.f](x[one], node.options)[1], ""), " is ∂E/∂X = ",
          number(dx[one], `${node.path}/dx[${one}]`, 7), ".")
        : paragraph("Its largest ∂E/∂Y is ", number(dy[one], `${node.path}/dy[${one}]`, 7), ", at cell ", String(one), "."),
      ...Object.keys(grads).map((name) => paragraph(`On the way it leaves ∂E/∂${name}, ${grads[name].length} numbers, of norm `,
        number(norm(grads[name]), `norm(${node.path}/d${name})`), ".")));
  }

  show(state) {
    const rows = this.layers.map((node) => {
      const { dy, dx, grads } = state.result.layers.get(node.path);
      const own = Object.keys(grads).flatMap((name, n) => [n ? ", " : "", `${name} `, number(norm(grads[name]), `norm(${node.path}/d${name})`)]);
      return [node.path, number(norm(dy), `norm(${node.path}/dy)`), number(norm(sideBySide(dx)), `norm(${node.path}/dx)`), element("span", {}, own), node.kind];
    });
    this.showStep(state);
    this.fill("Which layer is the first that ∂E/∂y reaches, and so the first whose weights, if it has any, get a gradient?",
      paragraph("Each layer is given ∂E/∂Y by the one behind it, leaves the gradients of its own weights, and hands ∂E/∂X on: that is the next one's ∂E/∂Y."),
      this.steps, this.panel,
      table("all steps, in norms", ["layer", "|∂E/∂Y|", "|∂E/∂X|", "|∂E/∂W|", "class"], rows));
  }
}
