// 3: valid, same, full; stride, padding and dilation, as they are in this layer.

/** How many cells a kernel reaches over. */
const reach = (g, axis) => (g.kernel[axis] - 1) * g.dilation[axis] + 1;

/** The padding before and after an axis that a mode means, and how large Y is then; of a transposed convolution it is taken away. */
function modeSize(mode, { g, role }, axis) {
  const back = role === BACK;
  const [s, extent] = [g.stride[axis], reach(g, axis)];
  const n = back ? g.output[axis] * s : g.size[axis];
  const same = Math.max((Math.ceil(n / s) - 1) * s + extent - n, 0);
  const whole = { valid: 0, same, full: 2 * (extent - 1) }[mode];
  const forward = Math.floor((n + whole - extent) / s) + 1;
  return { padding: [Math.floor(whole / 2), whole - Math.floor(whole / 2)], size: !back ? forward : mode === "same" ? n : n - s + extent - whole };
}

class GeometrySection extends Section {
  constructor(state) {
    super({ id: "geometry", title: FORWARD.titles.geometry, expected: () => this.rows(state.view())[0], told: String });
    this.padded = new PlaneMap({ label: "X with its padding", width: 260 });
  }

  show(state) {
    const view = state.view();
    const { g, role } = view;
    const [p, q] = state.element;
    const [top, left] = [g.padding[0][0], g.padding[1][0]];
    const moved = ({ row, column, ...size }) => ({ row: row + top, column: column + left, ...size });
    const next = q + 1 < g.output[1] ? [{ ...moved(windowFrame(g, p, q + 1)), dashed: true }] : [];
    const size = (axis) => role.size(g.size[axis], g.output[axis], g.padding[axis], g.stride[axis], reach(g, axis));
    const padding = padded(role === BACK ? view.kept : view.read, g.padding);
    this.title.textContent = role.titles.geometry;
    this.fill(this.rows(view)[1],
      paragraph("This layer is ", code(`${view.node.kind}(${view.node.told})`), "."),
      paragraph("Rows: ", code(size(0)), ". Columns: ", code(size(1)), "."),
      element("div", { class: "row" },
        this.padded.show(padding, { frames: [...next, moved(windowFrame(g, p, q))], label: role.framed(p, q), palette: paletteOf(padding) }),
        this.modes(view)),
      this.identity(state, view));
  }

  /** How many rows Y has, and the question for them. */
  rows({ g, role }) {
    return role.sizes(g, reach(g, 0));
  }

  modes(view) {
    const { g, role } = view;
    const row = (name, [rows, columns]) =>
      [name, ...[rows, columns].map(({ padding }) => padding.join(" and ")), `${rows.size} × ${columns.size}`];
    const modes = ["valid", "same", "full"].map((mode) => row(mode, [0, 1].map((axis) => modeSize(mode, view, axis))));
    const own = [0, 1].map((axis) => ({ padding: g.padding[axis], size: (role === BACK ? g.size : g.output)[axis] }));
    return table(role.around, ["mode", "above and below", "left and right", "Y"], [...modes, row("this layer", own)]);
  }

  identity(state, view) {
    const { g, symbols } = view;
    const [p, q] = state.element;
    const image = padded(view.read, g.padding);
    const kernel = spread(view.K, g.dilation);
    const at = [p * g.stride[0], q * g.stride[1]];
    const full = (k) => cellAt(convolveFull(image, k), at[0] + k.rows - 1, at[1] + k.columns - 1);
    const [straight, turned] = [cellAt(correlateValid(image, kernel), ...at), full(kernel)];
    const shown = (operation, kernel) => code(`${operation}(${symbols.read}, ${kernel})`);
    const name = `window(${view.path},${view.i},${view.j},${p},${q})`;
    return [element("h3", {}, "Convolution is correlation with the kernel rotated"),
      paragraph(`At this window of ${symbols.read}, ${symbols.j} ${view.j}: `, shown("correlate", symbols.kernel), " = ", number(straight, name, 7), " = ",
        shown("convolve", `rot180 ${symbols.kernel}`), " = ", number(full(rot180(kernel)), name, 7), ", and ", shown("convolve", symbols.kernel), " = ",
        number(turned, `turned(${view.path},${view.i},${view.j},${p},${q})`, 7),
        Math.abs(turned - straight) > 1e-9 * Math.abs(straight) ? ", which is another number." : ", the same number here: K or this window looks alike when it is turned.",
        " Layers that are called convolutional correlate: a kernel is learned, and would be learned turned as well.")];
  }
}
