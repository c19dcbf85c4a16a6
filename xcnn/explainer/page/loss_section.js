// 6: the loss and its derivative, with numbers.

class LossSection extends Section {
  constructor(state, data) {
    super({ id: "loss", title: "6 · The loss and its derivative", expected: () => state.result.dy[placeOfLargest(state.result.dy)] });
    this.data = data;
  }

  show({ network, result }) {
    const most = placeOfLargest(result.dy);
    const p = this.probabilities(network.loss, result.y);
    const order = [...result.dy.keys()].sort((a, b) => Math.abs(result.dy[b]) - Math.abs(result.dy[a])).slice(0, 12).sort((a, b) => a - b);
    const rows = order.map((k) => [
      this.data.classes[k], number(result.y[k], `y[${k}]`), ...(p ? [Number.isNaN(p[k]) ? "" : number(p[k], `p[${k}]`)] : []), number(network.t[k], `t[${k}]`),
      number(result.terms[k], `term[${k}]`, 7), number(result.dy[k], `dy[${k}]`, 7)]);
    const rest = result.dy.length - order.length;
    this.fill(
      `Output “${this.data.classes[most]}” is y = ${written(result.y[most], 6)}, and its target ${written(network.t[most], 6)}. By the formula below, what is ∂E/∂y of it?`,
      ...this.formulas(network.loss, result.y.length),
      table("each output", ["output", "y", ...(p ? ["p"] : []), "target t", "adds to E", "∂E/∂y"], rows),
      rest > 0 ? paragraph(`${rest} more outputs have smaller gradients.`) : null,
      paragraph("E = ", number(result.loss, "loss", 7), ", the sum of what they add."));
  }

  /** The loss's formula and its derivative; of several outputs those of each. */
  formulas({ name, options }, count) {
    if (name !== "several") return formulasOf({ name, options }, count).map((formula) => paragraph(code(formula)));
    const all = options.parts.map((part) => element("div", { class: "way" },
      paragraph(strong(part.output), part.weight === 1 ? "" : `, weight ${written(part.weight)}`), ...this.formulas(part, part.cells)));
    return [paragraph("Each output has a loss of its own; E is their sum."), ...all];
  }

  /** What a loss makes of outputs that are no probabilities yet; null where it takes them as they are. */
  probabilities({ name, options }, y) {
    if (name === "several") {
      const cells = apart(y, options.parts.map((part) => part.cells));
      const found = options.parts.map((part, n) => this.probabilities(part, cells[n]));
      return found.some(Boolean) ? sideBySide(found.map((each, n) => each || new Float64Array(cells[n].length).fill(NaN))) : null;
    }
    if (name === "binary_cross_entropy_with_logits") return y.map(sigmoid);
    const { places = 1 } = options;
    return name === "cross_entropy" && y.length > 1 ? OPERATIONS.softmax({ input: [y.length / places, places], axis: 0 }, y).y : null;
  }
}
