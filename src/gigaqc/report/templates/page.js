"use strict";
(() => {
  const table = document.getElementById("channel-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);

  const key = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    const order = cell.dataset.order;
    if (order === "") return NaN;
    if (order === "inf") return Infinity;
    return order === "-inf" ? -Infinity : Number(order);
  };

  // What could not be measured stays at the end, whichever way the others are sorted.
  const compare = (a, b, sign) => {
    if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return a === b ? 0 : a < b ? -sign : sign;
  };

  const sort = (column) => {
    const head = heads[column];
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [key(row, column, head.dataset.kind), row]);
    keyed.sort((a, b) => compare(a[0], b[0], down ? -1 : 1));
    body.append(...keyed.map((pair) => pair[1]));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });

  const filter = document.getElementById("filter");
  const count = document.getElementById("filter-count");
  const texts = rows.map((row) => (row.cells[0].textContent + " " + row.cells[1].textContent).toLowerCase());
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const hidden = !words.every((word) => texts[i].includes(word));
      row.hidden = hidden;
      const card = document.getElementById(row.dataset.card);
      if (card) card.hidden = hidden;
      shown += hidden ? 0 : 1;
    });
    count.textContent = (shown === rows.length ? "" : shown + " of ") + rows.length + "\u00a0channel" + (rows.length === 1 ? "" : "s");
  });
  document.getElementById("filter-tool").hidden = false;
  document.querySelectorAll(".script-only").forEach((element) => { element.hidden = false; });

  // Paper cannot be unfolded.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    folded.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((element) => { element.open = false; }));
})();
