// The page: its sections, what is chosen for all of them, and the badge.

/** The choice of layer, filter and channel, which stays in sight. */
class Bar {
  constructor(state) {
    const paths = state.correlations.map((node) => node.path);
    const changed = (change) => (n) => {
      change(n);
      state.show();
    };
    this.layer = choice("Layer", paths, changed((n) => state.chooseLayer(paths[n])));
    this.filter = choice("filter", [], changed((n) => state.chooseFilter(n)));
    this.channel = choice("channel", [], changed((n) => (state.share = n)));
    this.root = element("nav", { class: "bar", "aria-label": "what is shown in full" }, this.layer.root, this.filter.root, this.channel.root);
    this.paths = paths;
  }

  /** What filters and channels are called, of which a transposed convolution has the ones for the others. */
  call(symbols) {
    for (const [each, name] of [[this.filter, symbols.i], [this.channel, symbols.j]]) each.root.firstChild.textContent = `${name} `;
  }

  show(state) {
    const { g, share, c, j, symbols } = state.view();
    this.call(symbols);
    const numbers = (count, from = 0) => Array.from({ length: count }, (_, n) => String(from + n));
    this.layer.select.selectedIndex = this.paths.indexOf(state.path);
    offer(this.filter.select, numbers(g.filters), state.filter);
    offer(this.channel.select, numbers(share, j - c), c);
  }
}

/** What the page's arithmetic differs by from NumPy's. */
function badge(found, version) {
  const good = found.worst < 1e-6;
  return element("p", { class: good ? "badge" : "badge bad", id: "badge", "data-worst": String(found.worst), "data-count": String(found.count) },
    good ? "✓ " : "✗ ", "page against NumPy ", version, ": max |difference| = ", written(found.worst, 2), ` over ${found.count} numbers`,
    good ? "" : `, in ${found.where}`);
}

/** The switch that covers all answers until they are asked for. */
function coverSwitch(sections) {
  const box = element("input", { type: "checkbox", onchange: () => sections.forEach((each) => (each.answer.open = !box.checked)) });
  return element("label", {}, box, " Cover the answers: I want to guess first");
}

/** Paper has all answers, and light colours. */
function readyForPrint(state, sections, overview) {
  let open = [];
  addEventListener("beforeprint", () => {
    document.body.classList.add("printing");
    open = [...sections, overview].map((each) => each.answer.open);
    for (const each of [...sections, overview]) each.answer.open = true;
    state.show();
  });
  addEventListener("afterprint", () => {
    document.body.classList.remove("printing");
    [...sections, overview].forEach((each, n) => (each.answer.open = open[n]));
    state.show();
  });
}

/** Areas that scroll are stops of the Tab key, others are none. */
function markScrolling() {
  for (const area of document.querySelectorAll(".scroll"))
    if (area.scrollWidth > area.clientWidth || area.scrollHeight > area.clientHeight) area.tabIndex = 0;
    else area.removeAttribute("tabindex");
}

/** What the page tells of the net: how large it is, and what it was computed in where it came from. */
function heading(data) {
  const { dtype, precision, backend } = data.computed;
  const own = precision === dtype ? dtype : `${dtype}, computed in ${precision}`;
  return paragraph(`${data.parameters.toLocaleString("en")} parameters (${own} on ${backend}); here all is computed in float64 from the same weights, as a prediction is.`);
}

function start() {
  const began = performance.now();
  const data = JSON.parse(document.getElementById("data").textContent);
  const state = new State(new Network(data));
  const found = comparison(state.result, data.reference);
  const convolutional = state.path !== undefined;
  const picture = new PictureSection(state, data);
  const overview = new OverviewSection(state);
  const full = convolutional ? [new RotationSection(state), new WindowSection(state), new GeometrySection(state), new GradientsSection(state), new DifferencesSection(state, data)] : [];
  const sections = [...full, new LossSection(state, data), new ChainSection(state), new DescentSection(state, data)];
  const bar = convolutional ? new Bar(state) : null;
  const changed = element("p", { id: "changed" });
  document.getElementById("page").append(...[
    badge(found, data.numpy), heading(data), changed, picture.root, data.draw ? new Drawing(state).root : null, overview.root,
    convolutional ? null : paragraph("Parts 1 to 5 are about a convolution; this net has none that they could show."),
    coverSwitch(sections), bar?.root, ...sections.map((section) => section.root)].filter(Boolean));
  state.listeners.push(...[picture, overview, bar, ...sections].filter(Boolean).map((each) => () => each.show(state)), () => {
    changed.textContent = state.changes ? "Something was changed: the numbers are no longer those of the picture and the weights that were given." : "";
    markScrolling();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.show());
  addEventListener("resize", markScrolling);
  readyForPrint(state, sections, overview);
  state.show();
  globalThis.xcnn = { state, operations: OPERATIONS, losses: LOSSES, nodesOf, decoded, ready: performance.now() - began }; // for consoles and tests
}

start();
