// The kernel of a standardised convolution: K̂ is made of K, filter by filter, and ∂E/∂K goes back through that.

/** What a filter's kernel is standardised by, and how its gradient goes back: all numbers of filter i. */
function standardisation({ record, kernel, node, i, share, g }) {
  const size = share * g.kernel[0] * g.kernel[1];
  const cut = (cells) => cells.slice(i * size, (i + 1) * size);
  const [own, hat, dHat] = [kernel.cells, record.used.kernel, record.used.gradient].map(cut);
  const mean = total(own) / size;
  const variance = total(own.map((value) => (value - mean) ** 2)) / size;
  return { size, mean, variance, spread: Math.sqrt(variance + node.epsilon), level: total(dHat) / size, slope: dot(dHat, hat) / size };
}

/** What is subtracted or multiplied, in brackets where it is below 0. */
const bracketed = (value, shown) => (value < 0 ? ["(", shown, ")"] : [shown]);

const named = (view, name, value, digits) => number(value, `${name}(${view.path},${view.i})`, digits);

/** How one cell of K̂ is made of K; null of other layers. */
function madeHat(view, [a, b]) {
  if (!view.record.used) return null;
  const { size, mean, variance, spread } = standardisation(view);
  return element("div", { class: "way" }, element("h3", {}, "K̂: the kernel, standardised"),
    paragraph(`What slides over X is not the weights K, but K̂: of the ${size} weights of filter ${view.i} their mean is taken away, and the rest divided by their spread.`),
    paragraph("mean = ", named(view, "kernel_mean", mean), ", variance = ", named(view, "kernel_variance", variance), `, ε = ${view.node.epsilon}: `,
      code(`K̂[${a}, ${b}] = (K[${a}, ${b}] − mean) / √(variance + ε)`), " = (", number(cellAt(view.own.K, a, b), view.own.k(a, b)), " − ", ...bracketed(mean, number(mean, "")), ") / ",
      number(spread, ""), " = ", number(cellAt(view.K, a, b), view.name.k(a, b), 7), "."),
    element("div", { class: "row" }, gridTable("K, the weights", view.own.K, view.own.k, [a, b]), gridTable("K̂", view.K, view.name.k, [a, b])));
}

/** How ∂E/∂K̂ becomes ∂E/∂K; null of other layers. */
function backThroughHat(view, [a, b]) {
  if (!view.record.used) return null;
  const { spread, level, slope } = standardisation(view);
  const [dHat, hat] = [cellAt(view.dK, a, b), cellAt(view.K, a, b)];
  return element("div", { class: "way" }, element("h3", {}, "Back through the standardisation"),
    paragraph("A weight also moves the mean and the spread of its filter, and so all of its K̂:"),
    paragraph(code("∂E/∂K = (∂E/∂K̂ − mean(∂E/∂K̂) − K̂ mean(∂E/∂K̂ K̂)) / √(variance + ε)"), ", the means over filter ", String(view.i), "."),
    paragraph(`∂E/∂K[${a}, ${b}] = (`, number(dHat, view.name.dk(a, b)), " − ", ...bracketed(level, named(view, "gradient_mean", level)), " − ",
      ...bracketed(hat, number(hat, view.name.k(a, b))), " × ", ...bracketed(slope, named(view, "gradient_slope", slope)), ") / ", number(spread, ""), " = ", number(cellAt(view.own.dK, a, b), view.own.dk(a, b), 7), "."));
}
