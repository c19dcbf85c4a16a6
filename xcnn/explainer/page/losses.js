// Losses of one sample: each takes outputs y, targets t and its options, and gives {value, dy, terms}: terms[k] is what output k
// adds to the value. `formulas` says how, for the page.

/** t x, and 0 where t is 0, also of an infinite x. */
const shareOf = (t, x) => (t === 0 ? 0 : t * x);

/** The loss of terms and a gradient, both by output. */
function summed(terms, dy) {
  return { value: total(terms), terms, dy };
}

const SMALLEST = 2 ** -1022;
const LARGEST_BELOW_1 = 1 - 2 ** -53;

const LOSSES = {
  cross_entropy(y, t, { label_smoothing: s = 0, places = 1 }) {
    const classes = y.length / places;
    const terms = new Float64Array(y.length);
    const dy = new Float64Array(y.length);
    for (let place = 0; place < places; place++) {
      const of = Array.from({ length: classes }, (_, c) => c * places + place);
      const most = Math.max(...of.map((n) => y[n]));
      const sum = of.reduce((part, n) => part + Math.exp(y[n] - most), 0);
      const goal = (n) => t[n] * (1 - s) + s / classes;
      const all = of.reduce((part, n) => part + goal(n), 0);
      for (const n of of) {
        const logP = y[n] - most - Math.log(sum);
        terms[n] = -shareOf(goal(n), logP) / places;
        dy[n] = (Math.exp(logP) * all - goal(n)) / places;
      }
    }
    return summed(terms, dy);
  },

  binary_cross_entropy(y, t) {
    const size = y.length;
    const p = y.map((value) => Math.min(Math.max(value, SMALLEST), LARGEST_BELOW_1));
    return summed(
      p.map((value, n) => -(t[n] * Math.log(value) + (1 - t[n]) * Math.log(1 - value)) / size),
      p.map((value, n) => ((1 - t[n]) / (1 - value) - t[n] / value) / size),
    );
  },

  binary_cross_entropy_with_logits(y, t) {
    const size = y.length;
    const positive = (value) => Math.max(value, 0);
    return summed(
      y.map((v, n) => {
        const linear = shareOf(1 - t[n], positive(v)) + shareOf(t[n], positive(-v));
        return (linear + Math.log1p(Math.exp(-Math.abs(v)))) / size;
      }),
      y.map((v, n) => ((1 - t[n]) * sigmoid(v) - t[n] * sigmoid(-v)) / size),
    );
  },

  mse: (y, t) => summed(y.map((v, n) => (v - t[n]) ** 2 / y.length), y.map((v, n) => (2 * (v - t[n])) / y.length)),

  mae: (y, t) => summed(y.map((v, n) => Math.abs(v - t[n]) / y.length), y.map((v, n) => Math.sign(v - t[n]) / y.length)),

  huber(y, t, { delta = 1 }) {
    const near = y.map((v, n) => Math.min(Math.max(v - t[n], -delta), delta));
    return summed(
      y.map((v, n) => (near[n] * (v - t[n] - 0.5 * near[n])) / y.length),
      near.map((v) => v / y.length),
    );
  },
};

/** Several outputs, side by side: E = Σ w E(y, t), each with the loss of its own. */
LOSSES.several = (y, t, { parts }) => {
  const lengths = parts.map((part) => part.cells);
  const targets = apart(t, lengths);
  const made = apart(y, lengths).map((cells, n) => {
    const { terms, dy } = LOSSES[parts[n].name](cells, targets[n], parts[n].options);
    return [terms, dy].map((each) => each.map((value) => value * parts[n].weight));
  });
  return summed(sideBySide(made.map(([terms]) => terms)), sideBySide(made.map(([, dy]) => dy)));
};

/** Those of cross-entropy: labels may be smoothed, and there may be a softmax for each of n places. */
function crossEntropyFormulas({ label_smoothing: s = 0, places = 1 }, count) {
  const goal = s ? "qₖ" : "tₖ";
  const classes = count / places;
  return [
    places > 1 ? `E = −(1/n) Σ Σₖ ${goal} log pₖ,  p = softmax(y) of each of n = ${places} places` : `E = −Σₖ ${goal} log pₖ,  p = softmax(y)`,
    places > 1 ? `∂E/∂yₖ = ( pₖ − ${goal} ) / n` : `∂E/∂yₖ = pₖ − ${goal}`,
    ...(s ? [`qₖ = (1 − s) tₖ + s / ${classes},  s = ${s}`] : []),
  ];
}

/** The formulas of a loss of so many outputs: of its value, of its derivative, and of what stands in them. */
function formulasOf({ name, options }, count) {
  if (name === "cross_entropy") return crossEntropyFormulas(options, count);
  return [...LOSS_FORMULAS[name], `n = ${count}`, ...(name === "huber" ? [`δ = ${options.delta ?? 1}`] : [])];
}

/** The formulas of a loss and of its derivative, in words that fit every browser. */
const LOSS_FORMULAS = {
  binary_cross_entropy: [
    "E = −(1/n) Σₖ ( tₖ log yₖ + (1 − tₖ) log(1 − yₖ) )",
    "∂E/∂yₖ = ( (1 − tₖ)/(1 − yₖ) − tₖ/yₖ ) / n",
  ],
  binary_cross_entropy_with_logits: [
    "E = −(1/n) Σₖ ( tₖ log σ(yₖ) + (1 − tₖ) log(1 − σ(yₖ)) )",
    "∂E/∂yₖ = ( σ(yₖ) − tₖ ) / n",
  ],
  mse: ["E = (1/n) Σₖ (yₖ − tₖ)²", "∂E/∂yₖ = 2 (yₖ − tₖ) / n"],
  mae: ["E = (1/n) Σₖ |yₖ − tₖ|", "∂E/∂yₖ = sign(yₖ − tₖ) / n"],
  huber: ["E = (1/n) Σₖ e²/2 where |e| ≤ δ, else δ(|e| − δ/2),  e = yₖ − tₖ", "∂E/∂yₖ = e, cut to ±δ, / n"],
};
