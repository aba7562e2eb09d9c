// The page's own script: unpack the data and the libraries, show the table, and draw a chart once it is scrolled to.

const at = (selector) => document.querySelector(selector);

async function unpacked(name) {
  const bytes = Uint8Array.from(atob(at(`#${name}`).textContent), (char) => char.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

async function library(name) {
  const address = URL.createObjectURL(new Blob([await unpacked(name)], { type: "text/javascript" }));
  try {
    return await import(address);
  } finally {
    URL.revokeObjectURL(address);
  }
}

const element = (tag, text, attributes = {}) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.textContent = text;
  return made;
};

const escaped = (text) =>
  text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

// A float is shown with six digits, and whole in its tooltip; an int is shown whole.
const brief = (text) => (/[.e]/.test(text) && Number.isFinite(Number(text)) ? String(Number(Number(text).toPrecision(6))) : text);

const NUMBERS = { inf: Infinity, "-inf": -Infinity };
const number = (text) => (text in NUMBERS ? NUMBERS[text] : text.trim() === "" ? NaN : Number(text));

// What a column has to be: a comparison if it begins with a sign, else a text that is in it.
function test(wanted) {
  const found = /^\s*(<=|>=|!=|=|<|>)\s*(.*)$/.exec(wanted);
  if (!found) return (text) => text.toLowerCase().includes(wanted.toLowerCase());
  const [, sign, word] = found;
  const limit = number(word);
  const equal = (text) => text === word || number(text) === limit;
  return {
    "<": (text) => number(text) < limit,
    ">": (text) => number(text) > limit,
    "<=": (text) => number(text) <= limit,
    ">=": (text) => number(text) >= limit,
    "=": equal,
    "!=": (text) => !equal(text),
  }[sign];
}

// Numbers by value, then texts; what is missing or not a number comes last in either direction.
function compare(a, b, sign) {
  const [x, y] = [number(a), number(b)];
  if (a === "" || b === "") return (a === "") - (b === "");
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x < y ? -1 : x > y ? 1 : 0);
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return sign * (a < b ? -1 : a > b ? 1 : 0);
}

function shownTable(DataTable, data) {
  DataTable.type("value", "order", { asc: (a, b) => compare(a, b, 1), desc: (a, b) => compare(a, b, -1) });
  DataTable.ext.errMode = "throw";
  const { columns, links } = data;
  const rows = columns.length ? columns[0].values.map((_, row) => row) : [];
  // To DataTables a row is its position. What it puts into the document is escaped.
  const render = (each, place) => (row, type) => {
    const text = each.values[row];
    if (type === "sort" || type === "type") return text;
    if (type !== "display") return ""; // the filters below look at the data themselves
    const shown = escaped(each.is_number ? brief(text) : text.split("\n")[0]);
    if (place === 0 && links[row]) return `<a href="${escaped(links[row])}">${shown || "(no name)"}</a>`;
    return `<span title="${escaped(text)}">${shown}</span>`;
  };
  const status = columns.find((each) => each.name === "status")?.values ?? [];
  const table = new DataTable("#table", {
    data: rows,
    columns: columns.map((each, place) => ({
      data: (row, type) => render(each, place)(row, type),
      type: "value",
      visible: !each.hidden,
      className: each.is_number ? "dt-right" : "dt-left",
    })),
    createdRow: (made, row) => made.classList.toggle("failed", status[row] === "failed"),
    order: [],
    language: { entries: { _: "cells", 1: "cell" }, emptyTable: "There are no cells.", zeroRecords: "No cell is left." },
    autoWidth: true,
    deferRender: true,
    scrollX: true,
    scrollY: "420px",
    scrollCollapse: true,
    scroller: true,
    layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: null },
  });
  columns.forEach((each, place) => {
    const input = element("input", "", { type: "search", placeholder: "filter" });
    input.setAttribute("aria-label", `filter ${each.name}`);
    input.dataset.column = each.name;
    for (const name of ["click", "keydown", "keypress", "mousedown"]) input.addEventListener(name, (event) => event.stopPropagation());
    input.addEventListener("input", () => {
      const holds = test(input.value);
      table.column(place).search(input.value === "" ? "" : (_, row) => holds(each.values[row])).draw();
    });
    table.column(place).header().append(input);
    const box = element("input", "", { type: "checkbox", checked: !each.hidden });
    box.dataset.column = each.name;
    box.addEventListener("change", () => table.column(place).visible(box.checked));
    const label = element("label", ` ${each.name}`);
    label.prepend(box);
    at("#columns > div").append(label);
  });
  at("#search").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = (row) => words.every((word) => columns.some((each) => each.values[row].toLowerCase().includes(word)));
    table.search(words.length ? (_, row) => holds(row) : "").draw();
  });
  return table;
}

const quiet = { actions: false, renderer: "canvas", mode: "vega-lite" };

// Whatever fails is said on the page.
const drawn = (box, spec) => window.vegaEmbed(box, spec, quiet).catch(broken);

function whenSeen(box, draw) {
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      draw();
    }
  }, { rootMargin: "300px" });
  observer.observe(box);
}

function showCharts(data, ready) {
  if (!data.charts.length) return;
  at("#charts").hidden = false;
  if (data.left) at("#charts .hint").textContent = `${data.left} more charts are left out.`;
  for (const { spec, note } of data.charts) {
    const figure = element("figure", "");
    const box = element("div", "");
    figure.append(box, element("figcaption", note));
    at(".charts").append(figure);
    whenSeen(figure, async () => {
      await ready();
      await drawn(box, { width: 280, height: 220, ...spec });
      figure.classList.add("drawn");
    });
  }
}

const MOST = 1000; // lines that are drawn of the cells

function showParallel(data, table, ready) {
  const axes = data.parallel.axes;
  if (!axes.length) return;
  at("#parallel").hidden = false;
  const names = axes.map((_, place) => String(place));
  const title = "datum.value >= 0 ? data('axes')[datum.value].name : ''";
  const last = axes[axes.length - 1].heights;
  const lines = (rows) => {
    const step = Math.max(1, Math.ceil(rows.length / MOST));
    const kept = rows.filter((_, place) => place % step === 0);
    at("#parallel .hint").textContent =
      `${kept.length} of ${rows.length} cells that the table's filters leave` + (step > 1 ? `: each ${step}th` : "") +
      `; coloured by ${axes[axes.length - 1].name}`;
    return kept.flatMap((row) => axes.map((each, place) => ({ cell: row, axis: place, at: each.heights[row], last: last[row] })));
  };
  const ends = axes.flatMap((each, axis) => [{ axis, at: 0, text: each.low }, { axis, at: 1, text: each.high }]);
  const x = { field: "axis", type: "ordinal", sort: names, title: null, scale: { type: "point", padding: 0.3 },
    axis: { labelAngle: 0, labelLimit: 130, labelExpr: title, domain: false, ticks: false, grid: true, labelPadding: 18 } };
  const y = { field: "at", type: "quantitative", axis: null, scale: { domain: [0, 1] } };
  const spec = (values) => ({
    width: Math.max(500, 130 * axes.length), height: 280, view: { stroke: null }, config: { aria: false },
    datasets: { axes: axes.map(({ name }) => ({ name })) },
    layer: [
      { data: { name: "lines", values }, mark: { type: "line", opacity: 0.35, strokeWidth: 1 },
        encoding: { x, y, detail: { field: "cell", type: "nominal" },
          color: { field: "last", type: "quantitative", legend: null, scale: { scheme: "viridis", domain: [0, 1] } } } },
      { data: { values: ends }, mark: { type: "text", align: "left", dx: 4, fontSize: 10 },
        encoding: { x, y, text: { field: "text", type: "nominal" } } },
      { data: { name: "axes" }, mark: { type: "point", opacity: 0 } },
    ],
  });
  const now = () => lines(table.rows({ search: "applied", order: "index" }).data().toArray());
  whenSeen(at("#parallel"), async () => {
    await ready();
    const made = await drawn(at("#parallel .chart"), spec(now()));
    if (!made) return;
    at("#parallel").classList.add("drawn");
    let waiting = 0;
    table.on("search.dt", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => made.view.data("lines", now()).runAsync(), 150);
    });
  });
}

function broken(error) {
  at("#broken").hidden = false;
  at("#broken").textContent = `This page could not be shown: ${error}`;
  console.error(error);
}

try {
  const data = JSON.parse(await unpacked("data"));
  const style = document.createElement("style");
  style.textContent = await unpacked("datatables-style");
  document.head.prepend(style);
  const { default: DataTable } = await library("datatables");
  const table = shownTable(DataTable, data);
  let asked;
  const ready = () => (asked ??= library("vega"));
  showCharts(data, ready);
  showParallel(data, table, ready);
  document.body.classList.add("ready");
} catch (error) {
  broken(error);
}
