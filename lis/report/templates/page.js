// The page reads well without this: contents and details then open by hand, and long tables show their first rows.

// Contents: a column beside a wide page, a bar that opens above a narrow one.
const contents = document.querySelector(".contents details");
const wide = matchMedia("(min-width: 1100px)");
const fit = () => { contents.open = wide.matches; };
wide.addEventListener("change", fit);
fit();
contents.addEventListener("click", (event) => {
  if (event.target.closest("a")) fit();
});

// What an address points at; null where that is nothing, or where it is none, as "#%".
const addressed = (hash) => {
  try {
    return document.getElementById(decodeURIComponent(hash.slice(1)));
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    return null;
  }
};

// The section that is read is marked in the contents.
const links = new Map([...contents.querySelectorAll("a")].map((link) => [addressed(link.hash), link]));
links.delete(null);
const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const target of links.keys()) inView.observe(target);

// What is folded away opens where a link points into it or to its section, and for print.
const reveal = () => {
  const target = addressed(location.hash);
  if (!target) return;
  for (const fold of target.querySelectorAll(":scope > details")) fold.open = true;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", reveal);
addEventListener("click", (event) => {  // a second click does not change the hash
  if (event.target.closest("a")?.hash === location.hash) reveal();
});
if (location.hash) reveal();
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("main details:not([open])")];
  for (const fold of unfolded) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of unfolded) fold.open = false;
});

// What is wider than the page is scrolled by keyboard too.
const boxes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".frame, .scroll")) boxes.observe(box);

// Tables: their text as CSV; some also sort, filter and show more rows.
const make = (name, values = {}, ...children) => {
  const element = Object.assign(document.createElement(name), values);
  element.append(...children);
  return element;
};
const texts = (row) => [...row.cells].map((cell) => cell.textContent);
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
// A spreadsheet would calculate what begins so; numbers with a sign stay.
const literal = (text) => (/^[=@]|^[+-][^\d.∞]/.test(text) ? `'${text}` : text);
const minus = (text) => text.replaceAll("−", "-");

function save(name, rows) {
  const lines = rows.map((cells) => cells.map((cell) => quoted(literal(minus(cell)))).join(","));
  const address = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
  make("a", { href: address, download: `${name}.csv` }).click();
  URL.revokeObjectURL(address);
}

// The number that a cell starts with; NaN where it has none.
const value = (cell) => parseFloat(minus(cell).replaceAll(",", "").replace(/^[<≤+]\s*/, ""));

function compare(index, isNumber, sign) {
  return (a, b) => {
    if (!isNumber) return sign * a[index].localeCompare(b[index]);
    const [x, y] = [value(a[index]), value(b[index])];
    return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
  };
}

function sortable(box, head, rows, first) {
  const body = box.querySelector("tbody"), headers = [...box.querySelectorAll("th")];
  const search = make("input", { type: "search" });
  const only = make("input", { type: "checkbox" });
  const status = make("output");
  const all = make("button", { type: "button", className: "file" });
  const sieve = make("div", { className: "sieve" }, make("label", {}, "Rows with ", search));
  const column = head.indexOf(box.dataset.only);
  if (column >= 0) sieve.append(make("label", {}, only, ` ${head[column]} only`));
  sieve.append(status, all);
  box.before(sieve);
  let order = rows, showsAll = false, prints = false;

  const show = () => {
    const word = search.value.trim().toLowerCase();
    const passing = order.filter((row) => prints || ((!only.checked || row[column] === "yes")
      && (!word || row.some((cell) => cell.toLowerCase().includes(word)))));
    const visible = showsAll || prints ? passing : passing.slice(0, first);
    body.replaceChildren(...visible.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell)))));
    status.value = `${visible.length} of ${passing.length} rows`;
    all.textContent = showsAll ? `Show ${first}` : "Show all";
  };
  const sort = (index) => {
    const isNumber = rows.some((row) => !Number.isNaN(value(row[index])));
    const before = headers[index].getAttribute("aria-sort");
    const descending = before ? before === "ascending" : isNumber;
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[index].setAttribute("aria-sort", descending ? "descending" : "ascending");
    order = [...rows].sort(compare(index, isNumber, descending ? -1 : 1));
    show();
  };
  headers.forEach((header, index) => {
    header.replaceChildren(make("button", { type: "button", onclick: () => sort(index) }, head[index]));
  });
  search.addEventListener("input", show);
  only.addEventListener("change", show);
  all.addEventListener("click", () => { showsAll = !showsAll; show(); });
  addEventListener("beforeprint", () => { prints = true; show(); });  // the sieve is not printed
  addEventListener("afterprint", () => { prints = false; show(); });
  show();
}

for (const box of document.querySelectorAll(".scroll[id]")) {
  const [header, ...first] = [...box.querySelectorAll("tr")].map(texts);
  const rest = box.querySelector("script");
  const rows = rest ? [...first, ...JSON.parse(rest.textContent)] : first;
  if (rest) sortable(box, header, rows, first.length);
  const button = make("button", { type: "button", className: "file", ariaLabel: `CSV of ${box.id}` }, "CSV");
  button.addEventListener("click", () => save(box.id, [header, ...rows]));
  box.querySelector("caption").append(" ", button);
}

// Commands are copied by a button; where the browser does not allow that, they are selected.
for (const block of document.querySelectorAll("pre.command")) {
  const button = make("button", { type: "button", className: "file" }, "Copy");
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(block);
    try {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected";
    }
  });
  const box = make("div", { className: "copy" });
  block.replaceWith(box);
  box.append(block, button);
}
