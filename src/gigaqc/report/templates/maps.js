// Maps that tell the value under the pointer, or where the arrow keys went.
(() => {
  const MINUS = "\u2212";
  const readable = (text, unit) => (text === "" ? "not measurable" : text.replace("-", MINUS) + unit);
  const span = (first, last) => (first === last ? String(first) : first + "\u2013" + last);
  const digits = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");

  class Maps {
    constructor(group) {
      this.group = group;
      const d = group.dataset;
      this.rows = Number(d.rows);
      this.columns = Number(d.columns);
      this.start = Number(d.start);
      this.names = d.names ? JSON.parse(d.names) : null;
      this.step = Number(d.step || 1);
      this.tiles = (d.tiles || "").split(" ").map(Number);
      this.tile = Number(d.tile || 0);
      this.size = (d.size || "").split(" ").map(Number);
      this.out = document.getElementById(d.readout);
      this.hint = this.out.textContent;
      this.at = null;
      this.maps = Array.from(group.querySelectorAll(".map")).map((box) => {
        const cursor = document.createElement("span");
        cursor.className = "cursor";
        cursor.hidden = true;
        box.append(cursor);
        const whole = "whole" in box.dataset;
        this.follow(box, whole);
        return { box, cursor, whole, values: null, title: box.dataset.title, unit: box.dataset.unit || "" };
      });
      const keyboard = group.querySelector("[data-keys]") || group;
      keyboard.tabIndex = 0;
      keyboard.setAttribute("role", "application");
      keyboard.setAttribute("aria-roledescription", "heat map");
      keyboard.setAttribute("aria-label", d.label);
      keyboard.setAttribute("aria-describedby", this.out.id);
      keyboard.addEventListener("keydown", (event) => this.press(event));
      keyboard.addEventListener("focus", () => {
        if (keyboard.matches(":focus-visible") && this.at === null) this.show(Math.floor(this.start / this.columns), this.start % this.columns);
      });
      keyboard.addEventListener("blur", () => this.clear());
    }

    follow(box, whole) {
      const locate = (event) => {
        const area = box.getBoundingClientRect();
        const across = (event.clientX - area.left) / area.width;
        const down = (event.clientY - area.top) / area.height;
        if (whole && this.tile) {  // a thumbnail: pixels, and not tiles, are even
          this.show(Math.floor(down * this.size[0] / (this.tile * this.step)), Math.floor(across * this.size[1] / (this.tile * this.step)));
        } else {
          this.show(Math.floor(down * this.rows), Math.floor(across * this.columns));
        }
      };
      box.addEventListener("pointermove", locate);
      box.addEventListener("pointerdown", locate);
      box.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.clear(); });
    }

    press(event) {
      const [row, column] = this.at || [Math.floor(this.start / this.columns), this.start % this.columns];
      const to = {
        ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
        ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
        Home: [row, 0], End: [row, this.columns - 1],
        PageUp: [0, column], PageDown: [this.rows - 1, column],
      }[event.key];
      if (event.key === "Escape") this.clear();
      if (!to || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.show(...(this.at ? to : [row, column]));
    }

    show(row, column) {
      row = Math.min(Math.max(row, 0), this.rows - 1);
      column = Math.min(Math.max(column, 0), this.columns - 1);
      if (this.at && this.at[0] === row && this.at[1] === column) return;
      this.at = [row, column];
      const said = [];
      this.maps.forEach((map) => {
        const [top, left, bottom, right] = map.whole ? this.pixels(row, column).map((v, i) => v / this.size[i % 2])
          : [row / this.rows, column / this.columns, (row + 1) / this.rows, (column + 1) / this.columns];
        Object.assign(map.cursor.style, {
          top: 100 * top + "%", left: 100 * left + "%", height: 100 * (bottom - top) + "%", width: 100 * (right - left) + "%",
        });
        map.cursor.hidden = false;
        if (map.whole) return;
        if (map.values === null) map.values = map.box.dataset.values.split(" ");
        said.push((map.title ? map.title.toLowerCase().replace("snr", "SNR") + " " : "") + readable(map.values[row * this.columns + column], map.unit));
      });
      this.out.classList.add("told");
      this.out.textContent = this.place(row, column) + ": " + said.join(", ") + this.extent(row, column);
    }

    place(row, column) {
      if (this.names) return row === column ? this.names[row] : this.names[row] + " and " + this.names[column];
      const [rows, columns] = [row, column].map((at, i) => span(at * this.step, Math.min((at + 1) * this.step, this.tiles[i]) - 1));
      return "tile row " + rows + ", column " + columns;
    }

    pixels(row, column) {
      const side = this.tile * this.step;
      return [row * side, column * side, Math.min((row + 1) * side, this.size[0]), Math.min((column + 1) * side, this.size[1])];
    }

    extent(row, column) {
      if (this.names || !this.tile) return "";
      const [top, left, bottom, right] = this.pixels(row, column).map((v, i) => digits(i < 2 ? v : v - 1));
      return " (pixels y\u00a0" + span(top, bottom) + ", x\u00a0" + span(left, right) + ")";
    }

    clear() {
      this.at = null;
      this.maps.forEach((map) => { map.cursor.hidden = true; });
      this.out.classList.remove("told");
      this.out.textContent = this.hint;
    }
  }

  document.querySelectorAll("[data-readout]").forEach((group) => new Maps(group));
})();
