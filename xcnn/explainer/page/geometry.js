// 3: valid, same, full; stride, padding and dilation, as they are in this layer.

/** How many cells a kernel reaches over. */
const reach = (g, axis) => (g.kernel[axis] - 1) * g.dilation[axis] + 1;

/** The padding before and after an axis that a mode means. */
function modePadding(mode, g, axis) {
  const [n, s, extent] = [g.size[axis], g.stride[axis], reach(g, axis)];
  if (mode === "full") return [extent - 1, extent - 1];
  const whole = mode === "same" ? Math.max((Math.ceil(n / s) - 1) * s + extent - n, 0) : 0;
  return [Math.floor(whole / 2), whole - Math.floor(whole / 2)];
}

class GeometrySection extends Section {
  constructor(state) {
    super({ id: "geometry", title: "3 · Valid, same, full; stride, padding, dilation", expected: () => state.view().g.output[0], told: String });
    this.padded = new PlaneMap({ label: "X with its padding", width: 260 });
  }

  show(state) {
    const view = state.view();
    const { g } = view;
    const [p, q] = state.element;
    const [top, left] = [g.padding[0][0], g.padding[1][0]];
    const moved = ({ row, column, ...size }) => ({ row: row + top, column: column + left, ...size });
    const next = q + 1 < g.output[1] ? [{ ...moved(windowFrame(g, p, q + 1)), dashed: true }] : [];
    const size = (axis) => {
      const [lo, hi] = g.padding[axis];
      return `⌊(${g.size[axis]} + ${lo} + ${hi} − ${reach(g, axis)}) / ${g.stride[axis]}⌋ + 1 = ${g.output[axis]}`;
    };
    this.fill(
      `X has ${g.size[0]} rows; rows of zeros: ${g.padding[0][0]} above and ${g.padding[0][1]} below; the kernel reaches over ${reach(g, 0)}, and goes ${g.stride[0]} at a time. How many rows has Y?`,
      paragraph("This layer is ", code(`${view.node.kind}(${view.node.told})`), "."),
      paragraph("Rows: ", code(size(0)), ". Columns: ", code(size(1)), "."),
      element("div", { class: "row" },
        this.padded.show(padded(view.X, g.padding), { frames: [...next, moved(windowFrame(g, p, q))], label: `X with its padding, the window of Y[${p}, ${q}] and the next one`, palette: paletteOf(view.X) }),
        this.modes(g)),
      this.identity(state, view));
  }

  modes(g) {
    const row = (name, padding) => [name, ...[0, 1].map((axis) => `${padding[axis][0]} and ${padding[axis][1]}`),
      [0, 1].map((axis) => Math.floor((g.size[axis] + total(padding[axis]) - reach(g, axis)) / g.stride[axis]) + 1).join(" × ")];
    const modes = ["valid", "same", "full"].map((mode) => row(mode, [0, 1].map((axis) => modePadding(mode, g, axis))));
    return table("zeros around X, and the size of Y", ["mode", "above and below", "left and right", "Y"], [...modes, row("this layer", g.padding)]);
  }

  identity(state, view) {
    const { g } = view;
    const [p, q] = state.element;
    const image = padded(view.X, g.padding);
    const kernel = spread(view.K, g.dilation);
    const at = [p * g.stride[0], q * g.stride[1]];
    const full = (k) => cellAt(convolveFull(image, k), at[0] + k.rows - 1, at[1] + k.columns - 1);
    const [straight, turned] = [cellAt(correlateValid(image, kernel), ...at), full(kernel)];
    const name = `window(${view.path},${view.i},${view.j},${p},${q})`;
    return [element("h3", {}, "Convolution is correlation with the kernel rotated"),
      paragraph("At this window, channel ", String(view.j), ": ", code("correlate(X, K)"), " = ", number(straight, name, 7), " = ",
        code("convolve(X, rot180 K)"), " = ", number(full(rot180(kernel)), name, 7), ", and ", code("convolve(X, K)"), " = ",
        number(turned, `turned(${view.path},${view.i},${view.j},${p},${q})`, 7),
        Math.abs(turned - straight) > 1e-9 * Math.abs(straight) ? ", which is another number." : ", the same number here: K or this window looks alike when it is turned.",
        " Layers that are called convolutional correlate: a kernel is learned, and would be learned turned as well.")];
  }
}
