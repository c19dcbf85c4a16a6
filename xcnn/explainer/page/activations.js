// Functions of single cells: each gives [f(x), f'(x)].

/** 1 / (1 + exp(-x)), from exp(-|x|), which never overflows. */
function sigmoid(x) {
  const power = Math.exp(-Math.abs(x));
  return (x >= 0 ? 1 : power) / (1 + power);
}

const polynomial = (x, coefficients) => coefficients.reduceRight((sum, c) => sum * x + c, 0);

/** The normal distribution Phi(x) and its density phi(x), by Mills's ratio as a quotient of polynomials. */
function normal(x, [over, under]) {
  const a = Math.min(Math.abs(x), 40);
  const density = Math.exp((-a * a) / 2) / Math.sqrt(2 * Math.PI);
  const tail = (density * polynomial(a, over)) / polynomial(a, under);
  return [x > 0 ? 1 - tail : tail, density];
}

/** x Phi(x), with Phi as sigmoid(x (c + d x²)). */
function tanhGelu(x) {
  const c = 2 * Math.sqrt(2 / Math.PI);
  const d = 0.044715 * c;
  const s = sigmoid(x * (c + d * x * x));
  return [x * s, s + x * s * (1 - s) * (c + 3 * d * x * x)];
}

const ACTIVATIONS = {
  relu: (x) => [Math.max(x, 0), x > 0 ? 1 : 0],
  leaky_relu: (x, { negative_slope: slope }) => [x > 0 ? x : slope * x, x > 0 ? 1 : slope],
  elu: (x, { alpha }) => (x > 0 ? [x, 1] : [alpha * Math.expm1(x), alpha * Math.exp(x)]),
  gelu(x, { approximate, mills }) {
    if (approximate) return tanhGelu(x);
    const [distribution, density] = normal(x, mills);
    return [x * distribution, distribution + x * density];
  },
  silu(x) {
    const s = sigmoid(x);
    return [x * s, s + x * s * (1 - s)];
  },
  sigmoid(x) {
    const s = sigmoid(x);
    return [s, s * (1 - s)];
  },
  tanh(x) {
    const y = Math.tanh(x);
    return [y, 1 - y * y];
  },
  softplus: (x) => [Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), sigmoid(x)],
};
