// The picture, which can be changed pixel by pixel; what the net says of it; the target.

/** Paints three planes as red, green and blue. */
function paintColours(canvas, planes, most) {
  const [{ rows, columns, cells }] = planes;
  const size = Math.max(1, Math.floor(180 / Math.max(rows, columns)));
  Object.assign(canvas, { width: columns * size, height: rows * size });
  const context = canvas.getContext("2d");
  cells.forEach((_, n) => {
    context.fillStyle = `rgb(${planes.map((plane) => Math.round((Math.max(plane.cells[n], 0) / most) * 255))})`;
    context.fillRect((n % columns) * size, Math.floor(n / columns) * size, size, size);
  });
}

/** The number that is drawn brightest: 1, as in pictures, unless all are larger or far smaller. */
const brightest = (most) => (most > 0.01 ? Math.max(1, most) : most || 1);

/** The planes of all inputs, each with its label, the place of its first cell in x, and how it is drawn. */
function inputPlanes(x, inputs) {
  const cells = apart(x, inputs.map(({ shape }) => cellsOf(shape)));
  let from = 0;
  return inputs.flatMap(({ name, shape }, k) => {
    const planes = planesOf(cells[k], shape);
    const palette = paletteOf({ cells: cells[k] });
    const most = brightest(largest(cells[k]));
    return planes.map((each, n) => {
      const label = [name, planes.length > 1 ? `channel ${n}` : ""].filter(Boolean).join(", ") || "input X";
      const placed = { ...each, label, from, palette, most };
      from += each.cells.length;
      return placed;
    });
  });
}

class PictureSection {
  constructor(state, data) {
    Object.assign(this, { state, data });
    this.planes = inputPlanes(state.network.x, data.inputs);
    this.maps = this.planes.map(({ label }, n) => new PlaneMap({
      label, width: this.planes.length > 1 ? 180 : 280,
      onselect: (...at) => this.look(n, at), onsplash: (...at) => this.set(n, at, this.valueAt(n, at) > 0.5 ? 0 : 1),
    }));
    this.value = numberField("Value of the chosen pixel", (value) => this.set(state.pixel.plane, state.pixel.at, value));
    this.target = element("div", { class: "row" });
    this.outputs = element("div", {});
    this.makeTarget();
    this.colours = this.data.inputs.length === 1 && this.planes.length === 3 ? element("canvas", { role: "img", "aria-label": "the picture in colours" }) : null;
    this.root = element("section", { id: "picture", "aria-labelledby": "picture-title" },
      element("h2", { id: "picture-title" }, "Your picture, and what the net makes of it"),
      element("p", { class: "control" }, "Choose a pixel by a click or the arrow keys, and give it another value; the space bar makes it 1 or 0. ",
        "All numbers of this page are then computed anew, here in the page."),
      element("div", { class: "columns" },
        element("div", {}, element("div", { class: "row" }, this.maps.map((map) => map.root),
            this.colours && element("figure", { class: "map" }, this.colours, element("figcaption", {}, "in colours"))),
          element("div", { class: "row" }, this.value.root, button("All as it was given", () => this.reset()))),
        element("div", {}, this.target, this.outputs)));
  }

  makeTarget() {
    const { network } = this.state;
    if (this.data.labels) {
      const pick = choice("Target, the class that it is", this.data.classes, (k) => {
        network.t.fill(0);
        network.t[k] = 1;
        this.state.changed();
      });
      this.pick = pick.select;
      this.target.append(pick.root);
    } else {
      this.fields = [...network.t].slice(0, 12).map((_, k) => numberField(this.data.loss.name === "several" ? `target of ${this.data.classes[k]}` : `t[${k}]`, (value) => {
        network.t[k] = value;
        this.state.changed();
      }));
      const more = network.t.length - this.fields.length;
      this.target.append(...this.fields.map((field) => field.root), ...(more > 0 ? [element("span", {}, `and ${more} more targets, which stay as they are`)] : []));
    }
  }

  place(n, [row, column]) {
    const { from, columns } = this.planes[n];
    return from + row * columns + column;
  }

  valueAt(n, at) {
    return this.state.network.x[this.place(n, at)];
  }

  look(n, at) {
    this.state.pixel = { plane: n, at };
    this.state.show();
  }

  set(n, at, value) {
    this.state.pixel = { plane: n, at };
    this.state.network.x[this.place(n, at)] = value;
    this.state.changed();
  }

  reset() {
    this.state.network.reset();
    this.state.changes = -1;
    this.state.changed();
  }

  show({ network, result, pixel }) {
    this.planes = inputPlanes(network.x, this.data.inputs);
    this.planes.forEach((plane, n) =>
      this.maps[n].show(plane, { ...plane, chosen: n === pixel.plane ? pixel.at : undefined, name: (...at) => `x[${this.place(n, at)}]` }));
    if (this.colours) paintColours(this.colours, this.planes, this.planes[0].most);
    enter(this.value.input, this.valueAt(pixel.plane, pixel.at));
    if (this.pick) this.pick.selectedIndex = placeOfLargest(network.t, (value) => value);
    else this.fields.forEach((field, k) => enter(field.input, network.t[k]));
    const order = [...result.y.keys()].sort((a, b) => result.y[b] - result.y[a]).slice(0, 12).sort((a, b) => a - b);
    const best = placeOfLargest(result.y, (value) => value);
    this.outputs.replaceChildren(
      table("What the net says", ["output", "y", "target t"], order.map((k) => [
        this.data.classes[k], { cell: number(result.y[k], `y[${k}]`), class: k === best && this.data.loss.name !== "several" ? "marked" : undefined }, number(network.t[k], `t[${k}]`)])),
      paragraph("loss E = ", number(result.loss, "loss", 7)));
  }
}
