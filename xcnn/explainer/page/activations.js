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
  clipped_relu: (x, { max_value: most }) => [Math.min(Math.max(x, 0), most), x > 0 && x < most ? 1 : 0],
  selu(x) {
    const [scale, alpha] = [1.0507009873554805, 1.6732632423543772];
    return x > 0 ? [scale * x, scale] : [scale * alpha * Math.expm1(x), scale * alpha * Math.exp(x)];
  },
  mish(x) {
    const w = Math.tanh(Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))));
    return [x * w, w + x * (1 - w * w) * sigmoid(x)];
  },
  hard_sigmoid(x, { slope }) {
    const y = Math.min(Math.max(slope * x + 0.5, 0), 1);
    return [y, y > 0 && y < 1 ? slope : 0];
  },
  hard_swish(x) {
    const h = Math.min(Math.max(x / 6 + 0.5, 0), 1);
    return [x * h, h > 0 && h < 1 ? h + x / 6 : h];
  },
  softsign(x) {
    const q = 1 / (1 + Math.abs(x));
    return [x * q, q * q];
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
