// 8: gradient descent, a step at a time.

class DescentSection extends Section {
  constructor(state, data) {
    super({ id: "descent", title: "8 · One step of gradient descent", options: ["it falls", "it rises"], expected: () => "it falls" });
    this.state = state;
    this.losses = [];
    this.rate = numberField("Learning rate", () => {}, { value: data.rate, min: 0 });
    this.told = element("p", { "aria-live": "polite" });
    this.buttons = element("div", { class: "row" }, this.rate.root, button("One step", () => this.descend(1)), button("Ten steps", () => this.descend(10)));
  }

  descend(steps) {
    const { state } = this;
    if (!this.losses.length || this.losses.at(-1) !== state.result.loss) this.losses = [state.result.loss];
    const rate = Number.isFinite(this.rate.input.valueAsNumber) ? this.rate.input.valueAsNumber : 0;
    const before = state.result.loss;
    for (let n = 0; n < steps; n++) {
      state.network.descend(state.result, rate);
      state.compute();
      this.losses.push(state.result.loss);
    }
    const after = state.result.loss;
    const way = after < before ? "fell" : after > before ? "rose: the rate is too large" : "stayed";
    this.told.textContent = `The loss ${way}, from ${written(before, 6)} to ${written(after, 6)}.`;
    this.losses = this.losses.slice(-200);
    state.changes += 1;
    state.show();
  }

  show() {
    this.fill("Each weight is moved a little against its gradient. What does the loss of this picture do?",
      paragraph(code("w ← w − η ∂E/∂w"), " for every weight of the net, at once; with a small enough rate η the loss falls."),
      this.buttons, this.told, this.losses.length > 1 ? this.curve() : null);
  }

  curve() {
    const { losses } = this;
    const [width, height] = [320, 120];
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    const at = (loss, n) => `${(n / (losses.length - 1)) * width},${height - ((loss - low) / (high - low || 1)) * height}`;
    const make = (tag, attributes, ...children) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      made.append(...children);
      return made;
    };
    return element("figure", { class: "map" },
      make("svg", { viewBox: `-4 -4 ${width + 8} ${height + 8}`, class: "curve", role: "img", "aria-label": `loss of ${losses.length - 1} steps, from ${written(losses[0])} to ${written(losses.at(-1))}` },
        make("polyline", { points: losses.map(at).join(" "), fill: "none", stroke: "currentColor", "stroke-width": 2 })),
      element("figcaption", {}, `loss after each of ${losses.length - 1} steps: ${losses.slice(-6).map((loss) => written(loss, 5)).join(", ")}`));
  }
}
