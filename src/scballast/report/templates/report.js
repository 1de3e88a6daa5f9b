"use strict";
// The page is whole without this: it adds search, sorting, copying, and opens what an address points into.
const cards = [...document.querySelectorAll(".card")];
const find = document.getElementById("find");
if (find) {
  const hits = document.getElementById("hits");
  const rows = cards.map(card => [...card.querySelectorAll(".genes tbody tr")]);
  find.disabled = false;
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    let shown = 0, genes = 0, unfolded = 0;
    cards.forEach((card, i) => {
      const named = card.querySelector("h3 bdi").textContent.toLowerCase().includes(wanted);
      let found = 0;
      rows[i].forEach(row => {
        const hit = wanted !== "" && row.cells[1].textContent.toLowerCase().includes(wanted);
        row.classList.toggle("hit", hit);
        found += hit;
      });
      card.hidden = wanted !== "" && !named && found === 0;
      if (wanted !== "" && !card.hidden && ++unfolded <= 10) card.open = true;
      shown += !card.hidden;
      genes += found;
      const first = card.querySelector("tr.hit");
      if (first && !named) first.closest(".scroll").scrollTop = first.offsetTop - 40;
    });
    hits.textContent = wanted === "" ? "" : `${shown} of ${cards.length} populations, ${genes} rows of genes`;
  });
}
const filter = document.getElementById("filter");
if (filter) {
  const groups = [...document.querySelectorAll(".answer tbody")];
  const texts = groups.map(group => group.textContent.toLowerCase());
  filter.disabled = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    groups.forEach((group, i) => { group.hidden = !texts[i].includes(wanted); });
    const n = groups.filter(group => !group.hidden).length;
    document.getElementById("left").textContent = wanted === "" ? "" : `${n} of ${groups.length} populations`;
  });
}
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.dataset.names;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // A preview in a sandbox has no clipboard of its own.
      const area = document.body.appendChild(document.createElement("textarea"));
      area.value = text;
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Copying is not allowed here";
    setTimeout(() => { button.textContent = "Copy genes"; }, 2000);
  });
}
const value = cell => {
  const exact = cell.querySelector("data");
  const text = (exact ? exact.value : cell.textContent).replace("\u2212", "-").replaceAll(",", "");
  return text === "" ? NaN : Number(text);
};
// Answers are sorted by population: all rows of one stay together, in the order of its first row.
const sorted = [...document.querySelectorAll("table.genes, table.grid, .tall table.answer")];
for (const table of sorted) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const place = heading.cellIndex, isNumber = heading.classList.contains("num");
      const whole = table.tBodies.length > 1, body = whole ? table : table.tBodies[0];
      const order = (a, b) => {
        const [x, y] = [a, b].map(item => {
          const cell = (whole ? item.rows[0] : item).cells[place];  // an answer of none has fewer
          if (isNumber) return cell ? value(cell) : NaN;
          return cell ? cell.textContent : "";
        });
        if (isNumber && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);
        return (isNumber ? x - y : x.localeCompare(y, undefined, { numeric: true })) * (down ? -1 : 1);
      };
      body.append(...[...(whole ? table.tBodies : body.rows)].sort(order));
    });
  }
}
// A figure and a table are links to their files, made from what the page holds.
const link = (text, address, name) => {
  const made = document.createElement("a");
  made.textContent = text;
  made.href = address;
  made.download = name;
  return made;
};
for (const figure of document.querySelectorAll("figure")) {
  const file = figure.querySelector(".file"), source = figure.querySelector("img").src;
  const stem = file.textContent.replace(/^figures\/|\.png.*$/g, "");
  const kind = source.startsWith("data:image/svg") ? "svg" : "png";
  file.replaceChildren(link(`figures/${stem}.${kind}`, source, `${stem}.${kind}`));
}
for (const table of document.querySelectorAll("table.grid")) {
  const text = cell => (cell.querySelector("data") ? cell.querySelector("data").value : cell.textContent).trim();
  const safe = value => /^[=+@-]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
  const quoted = value => `"${safe(value).replaceAll('"', '""')}"`;
  const rows = [...table.rows].map(row => [...row.cells].map(cell => quoted(text(cell))).join(",")).join("\n");
  const name = table.closest("[id]").id;
  table.caption.append(" ", link("CSV", `data:text/csv;charset=utf-8,${encodeURIComponent(rows + "\n")}`, `${name}.csv`));
}
const open = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", open);
// In a frame without an origin the address may not change; the click itself is enough.
for (const link of document.querySelectorAll('a[href^="#"]')) {
  link.addEventListener("click", () => {
    const target = document.getElementById(link.getAttribute("href").slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  });
}
open();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(item => { item.open = true; }));
