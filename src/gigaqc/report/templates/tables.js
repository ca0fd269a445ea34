"use strict";
// Tables that sort by their titles and are filtered by words and by verdict.
(() => {
  const collator = new Intl.Collator(undefined, { numeric: true });

  const key = (row, column, kind) => {
    const cell = row.cells[column];
    if (!cell) return kind === "text" ? "" : NaN;  // a sample without numbers has an error instead
    if (kind === "text") return cell.textContent.trim();
    const order = cell.dataset.order;
    if (!order) return NaN;
    if (order === "inf") return Infinity;
    return order === "-inf" ? -Infinity : Number(order);
  };

  // What could not be measured stays at the end, whichever way the others are sorted.
  const compare = (a, b, sign) => {
    if (typeof a === "string") return (!a || !b) ? !a - !b : sign * collator.compare(a, b);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return a === b ? 0 : a < b ? -sign : sign;
  };

  const makeSortable = (table, rows) => {
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[0].cells);
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
      if (!head.dataset.kind) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(column));
      head.replaceChildren(button);
    });
  };

  const makeFilter = (table, rows, tools) => {
    const field = tools.querySelector("input[type=search]");
    const buttons = Array.from(tools.querySelectorAll("button[data-severities]"));
    const count = tools.querySelector("output");
    const found = Array.from(table.tHead.rows[0].cells, (head, i) => ("find" in head.dataset ? i : -1)).filter((i) => i >= 0);
    const texts = rows.map((row) => [...found.map((i) => row.cells[i]), ...row.querySelectorAll("td[data-find]")].map((cell) => cell.textContent).join(" ").toLowerCase());
    const noun = table.dataset.noun;
    const update = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const pressed = buttons.find((button) => button.getAttribute("aria-pressed") === "true");
      const wanted = pressed && pressed.dataset.severities ? pressed.dataset.severities.split(" ") : null;
      let shown = 0;
      rows.forEach((row, i) => {
        const hidden = (wanted && !wanted.includes(row.dataset.severity)) || !words.every((word) => texts[i].includes(word));
        row.hidden = hidden;
        const card = row.dataset.card && document.getElementById(row.dataset.card);
        if (card) card.hidden = hidden;
        shown += hidden ? 0 : 1;
      });
      count.textContent = (shown === rows.length ? "" : shown + " of ") + rows.length + "\u00a0" + noun + (rows.length === 1 ? "" : "s");
    };
    field.addEventListener("input", update);
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      update();
    }));
    // A link to a card that the filter hides shows all again.
    window.addEventListener("hashchange", () => {
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!target || !target.hidden) return;
      field.value = "";
      if (buttons.length) buttons[0].click(); else update();
      target.scrollIntoView();
    });
  };

  document.querySelectorAll("table[data-noun]").forEach((table) => {
    const rows = Array.from(table.tBodies[0].rows);
    makeSortable(table, rows);
    const tools = document.getElementById(table.dataset.tools);
    if (tools) makeFilter(table, rows, tools);
  });
  document.querySelectorAll(".script-only").forEach((element) => { element.hidden = false; });

  // Paper cannot be unfolded.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    folded.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((element) => { element.open = false; }));
})();
