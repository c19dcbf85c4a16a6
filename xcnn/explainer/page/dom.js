// What the sections are made of: elements, numbers that know what they are, tables, questions.

/** A text whose ∂E/∂Y and [3, 4] no line's end cuts in two. */
const unbroken = (child) => (typeof child === "string" ? child.replaceAll("/∂", "/\u2060∂").replace(/(\[-?\d+), (?=-?\d+\])/g, "$1,\u00a0") : child);

/** An element with attributes; "on..." ones are listeners, undefined and false ones are left out. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined).map(unbroken));
  return made;
}

const paragraph = (...children) => element("p", {}, ...children);
const strong = (text) => element("strong", {}, text);
const code = (text) => element("code", {}, text);

/** A number of the page: it is written short, its `value` has all digits, and `name` says what it is, for the tests. */
function number(value, name, digits = 4) {
  return element("data", { value: String(value), "data-name": name }, written(value, digits));
}

/** Rows beyond which a table scrolls in a window of its own. */
const TALL = 30;
/** Rows and columns of a plane beyond which its numbers do so, and of which paper, which can't scroll, has a part. */
const PART = 8;
const onPaper = () => document.body.classList.contains("printing");

/** A table that scrolls by itself where it is too wide, or tall; a row is a list of cells, `{cell, ...attributes}` a marked one. */
function table(caption, head, rows, tall = rows.length > TALL) {
  const line = (cells, tag) =>
    element("tr", {}, cells.map((cell, n) => {
      const { cell: inner, ...attributes } = cell?.cell !== undefined ? cell : { cell };
      const heads = tag === "th" || (n === 0 && head !== null);
      const scope = heads ? (tag === "th" ? "col" : "row") : undefined;
      return element(heads ? "th" : "td", { scope, ...attributes }, inner);
    }));
  const parts = [element("caption", {}, caption)];
  if (head) parts.push(element("thead", {}, line(head, "th")));
  parts.push(element("tbody", {}, rows.map((row) => line(row, "td"))));
  return element("div", { class: tall ? "scroll tall" : "scroll", role: "group", "aria-label": caption }, element("table", {}, parts));
}

/** Where the part of so many rows or columns begins that has this one in it, and how many it has. */
function partAround(at, count) {
  const shown = onPaper() ? Math.min(count, PART) : count;
  return [Math.min(Math.max(at - Math.floor(shown / 2), 0), count - shown), shown];
}

/** A plane's cells as a table: `name(row, column)` is what a number is, `marked` the [row, column] that stands out. */
function gridTable(caption, { rows, columns, cells }, name, marked = []) {
  const [[top, high], [left, wide]] = [partAround(marked[0] ?? 0, rows), partAround(marked[1] ?? 0, columns)];
  const whole = high === rows && wide === columns;
  const span = (from, count) => (count > 1 ? `${from} to ${from + count - 1}` : String(from));
  const part = whole ? "" : `: rows ${span(top, high)}, columns ${span(left, wide)} of ${rows} × ${columns}`;
  const grid = Array.from({ length: high }, (_, p) =>
    Array.from({ length: wide }, (_, q) => {
      const [row, column] = [top + p, left + q];
      const stands = row === marked[0] && column === marked[1];
      return { cell: number(cells[row * columns + column], name(row, column)), class: stands ? "marked" : undefined };
    }),
  );
  return table(caption + part, null, grid, rows > PART);
}

/** The terms of a sum: the largest ones, what the others add, and the sum. A term is {label, parts, value, name}; `parts` makes its factors, of those that are shown alone. */
function termTable(caption, head, terms, sum, { most = 9, sign = "×" } = {}) {
  const plain = terms.every(({ parts }) => !parts); // then there is no column of them
  const line = (cells) => cells.filter((_, n) => n !== 1 || !plain);
  const order = terms.map((_, n) => n).sort((a, b) => Math.abs(terms[b].value) - Math.abs(terms[a].value) || a - b);
  const count = terms.length > most ? order.slice(0, most).filter((n) => terms[n].value !== 0).length : most;
  const shown = order.slice(0, count).sort((a, b) => a - b).map((n) => terms[n]);
  const rest = order.slice(count);
  const rows = shown.map(({ label, parts, value, name }) => [
    label, parts ? parts().flatMap((part, n) => (n ? [` ${sign} `, part] : [part])) : "", number(value, name),
  ]);
  if (rest.length) {
    const others = rest.reduce((part, n) => part + terms[n].value, 0);
    rows.push([`${rest.length} more terms`, "…", element("span", {}, written(others))]);
  }
  rows.push([{ cell: strong("sum"), class: "sum" }, { cell: "", class: "sum" }, { cell: sum, class: "sum" }]);
  return table(caption, line(head), rows.map(line));
}

/** Choices of a list, with a label. */
function choice(label, options, onchange) {
  const select = element("select", { onchange: () => onchange(select.selectedIndex) },
    options.map((text) => element("option", {}, text)));
  return { root: element("label", {}, `${label} `, select), select };
}

/** Gives a select other options, unless it has them. */
function offer(select, options, chosen) {
  if (select.options.length !== options.length || options.some((text, n) => select.options[n].text !== text))
    select.replaceChildren(...options.map((text) => element("option", {}, text)));
  select.selectedIndex = chosen;
}

/** Puts a number into a field, with the digits that can be read there. */
const enter = (input, value) => (input.value = Number(value.toPrecision(7)));

/** A field for a number, which tells of each finite number that is entered. */
function numberField(label, onnumber, attributes = {}) {
  const input = element("input", { type: "number", step: "any", ...attributes,
    onchange: () => input.value !== "" && Number.isFinite(input.valueAsNumber) && onnumber(input.valueAsNumber) });
  return { root: element("label", {}, `${label} `, input), input };
}

const button = (text, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, text);

/** Whether a guess is right: of numbers within 1 %. */
function isRight(guess, expected) {
  if (typeof expected === "string") return guess === expected;
  const found = Number(guess.replace("−", "-").replace(",", "."));
  return guess.trim() !== "" && Math.abs(found - expected) <= 0.01 * Math.max(Math.abs(expected), 1e-9);
}

/** A section: a heading, a question with room for a guess, and the answer, which is open unless answers are to be covered. */
class Section {
  constructor({ id, title, options, expected, told = (value) => written(value, 6) }) {
    this.body = element("div", { class: "body" });
    this.asked = paragraph();
    const verdict = element("output", {});
    const guess = options
      ? element("select", {}, element("option", {}, "choose …"), options.map((text) => element("option", {}, text)))
      : element("input", { type: "text", inputmode: "decimal", autocomplete: "off", size: 12 });
    const check = () => {
      const right = expected();
      verdict.textContent = isRight(guess.value, right) ? "Right." : `Not so: ${typeof right === "string" ? right : told(right)}`;
    };
    this.forget = () => (verdict.textContent = "");
    const form = element("div", { class: "question" }, this.asked,
      element("label", {}, "Your guess ", guess), " ", button("Check", check), " ", verdict);
    this.answer = element("details", { open: true, class: "answer" }, element("summary", {}, "The answer"), this.body);
    this.title = element("h2", { id: `${id}-title` }, title);
    this.root = element("section", { id, tabindex: -1, "aria-labelledby": `${id}-title` }, this.title, form, this.answer);
  }

  /** Shows these in place of what was shown. */
  fill(question, ...children) {
    this.asked.replaceChildren(strong("Before you look: "), unbroken(question));
    this.forget();
    this.body.replaceChildren(...children.flat().filter(Boolean));
  }
}
