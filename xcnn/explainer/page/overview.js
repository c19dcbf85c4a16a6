// All layers: their maps, kernels and gradients, the first of each; and the choice of the one that is shown in full.

const SHOWN_PLANES = 8;

/** Layers beyond which a net's pictures wait until they are asked for. */
const OPEN_LAYERS = 14;

/** The first planes of an array, with their number. */
function firstPlanes(cells, shape) {
  return planesOf(cells, shape).slice(0, SHOWN_PLANES);
}

/** The kernels of a layer as planes. */
function kernelPlanes(cells, shape) {
  const [rows, columns] = shape.length > 3 ? shape.slice(2) : [1, shape[2]];
  return planesOf(cells, [cells.length / (rows * columns), rows, columns]).slice(0, SHOWN_PLANES);
}

class OverviewSection {
  constructor(state) {
    this.state = state;
    this.rows = element("ol", { class: "layers" });
    this.answer = element("details", { class: "answer", open: leavesOf(state.network).length <= OPEN_LAYERS }, element("summary", {}, "All layers, in pictures"), this.rows);
    this.answer.addEventListener("toggle", () => this.show(state));
    this.root = element("section", { id: "overview", "aria-labelledby": "overview-title" },
      element("h2", { id: "overview-title" }, "The net, layer by layer"),
      paragraph(`Of each layer the first ${SHOWN_PLANES} maps Y and their gradients ∂E/∂Y, the first kernels K and theirs, with the `,
        "root of the sum of squares of each array. Orange and + is above 0, blue and − below."),
      this.answer);
  }

  show(state) {
    if (!this.answer.open) return;
    const { net, nodes } = state.network;
    const shown = nodes.filter((node) => node !== net || !node.children); // the net's own Y is its last layer's, and stands above
    this.rows.replaceChildren(...shown.map((node) => this.row(state, node)));
  }

  row(state, node) {
    const { y, dy, grads } = state.result.layers.get(node.path);
    const kernel = node.op === "dense" ? undefined : node.weights?.kernel;
    const pictures = [["Y", firstPlanes(y, node.output), "signed"], ["∂E/∂Y", firstPlanes(dy, node.output), "signed"]];
    if (kernel) {
      pictures.push(["K", kernelPlanes(kernel.cells, kernel.shape), "signed"]);
      pictures.push(["∂E/∂K", kernelPlanes(grads.kernel, kernel.shape), "signed"]);
    }
    const norms = [["|Y|", y, `norm(${node.path}/y)`], ["|∂E/∂Y|", dy, `norm(${node.path}/dy)`]];
    for (const name of Object.keys(grads)) norms.push([`|∂E/∂${name}|`, grads[name], `norm(${node.path}/d${name})`]);
    const full = node.op in ROLES && button(node.path === state.path ? "shown in full below" : `show ${node.path} in full`,
      () => {
        state.chooseLayer(node.path);
        state.show();
        document.getElementById("rotation").scrollIntoView();
        document.getElementById("rotation").focus();
      }, { disabled: node.path === state.path });
    return element("li", {},
      element("div", {}, strong(node.path), ` ${node.kind}${node.children ? ", as a whole" : `(${node.told})`}`,
        node.takes ? `, of ${node.takes.join(", ")}` : "", ` → ${sized(node.output)} `, full || null),
      element("div", { class: "row" }, pictures.map(([name, planes, palette]) =>
        element("figure", { class: "map" }, strip(planes, palette, `${name} of ${node.path}, the first ${planes.length}`), element("figcaption", {}, name)))),
      element("div", { class: "norms" }, norms.flatMap(([name, cells, what]) => [`${name} = `, number(norm(cells), what), "  "])));
  }
}
