// 6: the loss and its derivative, with numbers.

class LossSection extends Section {
  constructor(state, data) {
    super({ id: "loss", title: "6 · The loss and its derivative", expected: () => state.result.dy[placeOfLargest(state.result.dy)] });
    this.data = data;
  }

  show({ network, result }) {
    const { name } = network.loss;
    const [formula, derivative] = LOSS_FORMULAS[name];
    const most = placeOfLargest(result.dy);
    const softmax = name === "cross_entropy" && result.y.length > 1;
    const logits = name === "binary_cross_entropy_with_logits";
    const p = softmax ? this.softmax(network, result) : logits ? result.y.map(sigmoid) : null;
    const order = [...result.dy.keys()].sort((a, b) => Math.abs(result.dy[b]) - Math.abs(result.dy[a])).slice(0, 12).sort((a, b) => a - b);
    const rows = order.map((k) => [
      this.data.classes[k], number(result.y[k], `y[${k}]`), ...(p ? [number(p[k], `p[${k}]`)] : []), number(network.t[k], `t[${k}]`),
      number(result.terms[k], `term[${k}]`, 7), number(result.dy[k], `dy[${k}]`, 7)]);
    const rest = result.dy.length - order.length;
    this.fill(
      `Output “${this.data.classes[most]}” is y = ${written(result.y[most], 6)}, and its target ${written(network.t[most], 6)}. By the formula below, what is ∂E/∂y of it?`,
      paragraph(code(formula)), paragraph(code(derivative), result.y.length > 1 ? `, n = ${result.y.length}` : ""),
      table("each output", ["output", "y", ...(p ? ["p"] : []), "target t", "adds to E", "∂E/∂y"], rows),
      rest > 0 ? paragraph(`${rest} more outputs have smaller gradients.`) : null,
      paragraph("E = ", number(result.loss, "loss", 7), ", the sum of what they add."));
  }

  softmax(network, { y }) {
    const { places = 1 } = network.loss.options;
    const node = { input: [y.length / places, places], axis: 0 };
    return OPERATIONS.softmax(node, y).y;
  }
}
