"use strict";
// Tables that sort by a click on a column's name and show the rows that hold the words typed.

nb.number = (text) => {
  const found = /^[−+-]?\d[\d\u2009 ]*(\.\d+)?([eE][−+-]?\d+)?/.exec(text.trim());
  return found ? Number(found[0].replace(/−/g, "-").replace(/[\u2009 ]/g, "")) : null;
};

nb.sortable = (table) => {
  const head = table.rows[0], body = [...table.rows].slice(1), parent = body.length ? body[0].parentNode : null;
  [...head.cells].forEach((cell, column) => {
    if (!cell.textContent.trim()) return;
    cell.tabIndex = 0;
    cell.setAttribute("role", "columnheader");
    const sort = () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      [...head.cells].forEach((other) => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = body.map((row) => [row, row.cells[column] ? row.cells[column].textContent.trim() : ""]);
      const numeric = keyed.filter(([, text]) => nb.number(text) !== null).length >= keyed.length / 2;
      keyed.sort(([, a], [, b]) => {
        if (!numeric) return a.localeCompare(b);
        const [x, y] = [nb.number(a), nb.number(b)];
        return x === null ? 1 : y === null ? -1 : x - y;
      });
      if (down) keyed.reverse();
      parent.append(...keyed.map(([row]) => row));
    };
    cell.addEventListener("click", sort);
    cell.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
};

nb.filter = (table) => {
  if (table.rows.length < 9) return;
  const said = nb.el("span", { class: "note" });
  const box = nb.el("input", { type: "search", placeholder: "show rows with …", "aria-label": "show rows with these words", class: "filter", oninput: () => {
    const words = box.value.toLowerCase().split(/\s+/).filter((word) => word);
    let left = 0;
    [...table.rows].slice(1).forEach((row) => {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      left += !row.hidden;
    });
    said.textContent = words.length ? ` ${left} rows` : "";
  } });
  table.parentNode.before(nb.el("p", { class: "filterrow" }, box, said));
};

nb.SPOT_COLUMNS = [["h k l", null], ["experiment", "experiment", 0], ["panel", "panel", 0], ["frame", "frame", 1], ["d, Å", "d", 2], ["counts", "counts", 0], ["intensity", "intensity", 0], ["χ²", "chi_square", 2], ["radial, px", "radial_px", 3], ["tangential, px", "tangential_px", 3]];
nb.PAGE = 200; // rows that are drawn at once

// All spots, sorted and filtered as numbers, a page of them at a time.
nb.spotTable = (data) => {
  const s = data.spots;
  if (!s.state.length) return null;
  let order = s.state.map((_, i) => i), sorted = null, pages = 1;
  const names = ["used", "left out", "rejected"];
  const body = nb.el("tbody"), more = nb.el("button", { type: "button", onclick: () => { pages += 1; fill(); } }, "more rows");
  const words = nb.el("input", { type: "search", class: "filter", placeholder: "h k l, or why it was not used", "aria-label": "filter the spots", oninput: () => { pages = 1; fill(); } });
  const state = nb.el("select", { "aria-label": "which spots", onchange: () => { pages = 1; fill(); } }, nb.el("option", { value: "" }, "all spots"), ...names.map((name, i) => nb.el("option", { value: i }, name)));
  const said = nb.el("span", { class: "note" });
  const row = (i) => {
    const made = nb.el("tr", { tabindex: 0, "data-spot": i, class: i === nb.selected ? "selected" : null }, nb.el("td", { class: "name" }, nb.spotName(s, i)), ...nb.SPOT_COLUMNS.slice(1).map(([, name, digits]) => nb.el("td", { class: "n" }, nb.fixed(s[name][i], digits))), nb.el("td", { class: "state" }, s.state[i] === 2 ? s.reason[i] : names[s.state[i]]));
    made.addEventListener("click", () => nb.select(i));
    made.addEventListener("keydown", (event) => event.key === "Enter" && nb.select(i));
    return made;
  };
  const fill = () => {
    const wanted = words.value.toLowerCase().replace(/-/g, "−").trim();
    const found = order.filter((i) => (state.value === "" || s.state[i] === Number(state.value)) && (!wanted || `${nb.spotName(s, i)} ${s.reason[i]}`.toLowerCase().includes(wanted)));
    body.replaceChildren(...found.slice(0, pages * nb.PAGE).map(row));
    more.hidden = found.length <= pages * nb.PAGE;
    said.textContent = ` ${found.length} spots${data.unlisted ? `; ${data.unlisted} more in spots.csv` : ""}`;
  };
  const head = nb.el("tr", {}, ...nb.SPOT_COLUMNS.map(([label, name], column) => {
    const cell = nb.el("th", { class: column ? "n" : null, tabindex: 0, role: "columnheader" }, label);
    const sort = () => {
      const down = sorted === label, key = name ? (i) => s[name][i] : (i) => s.h[i] * 1e6 + s.k[i] * 1e3 + s.l[i];
      [...head.cells].forEach((other) => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      order.sort((a, b) => (key(a) === null ? 1 : key(b) === null ? -1 : (down ? -1 : 1) * (key(a) - key(b))));
      sorted = down ? null : label;
      fill();
    };
    cell.addEventListener("click", sort);
    cell.addEventListener("keydown", (event) => event.key === "Enter" && sort());
    return cell;
  }), nb.el("th", {}, "state"));
  nb.onSelect((i) => [...body.rows].forEach((r) => r.classList.toggle("selected", Number(r.dataset.spot) === i)));
  fill();
  return nb.el("div", {}, nb.el("p", { class: "filterrow" }, words, state, said), nb.el("div", { class: "scroll tall" }, nb.el("table", { id: "spots" }, nb.el("thead", {}, head), body)), more);
};
