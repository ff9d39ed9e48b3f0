"use strict";
// The frame on the detector: pixels, panels, spots and their residuals, with zoom and pan.

nb.Viewer = class {
  constructor(data, options = {}) {
    this.data = data;
    this.shown = { frame: true, panels: true, names: data.panels.length > 1, rings: false, observed: true, predicted: true, residuals: true, rejected: false, ...options.shown };
    this.when = options.when || "end";
    this.frame = 0;
    this.contrast = 1;
    this.lengthened = 1;
    this.tinted = new Map();
    this.canvas = nb.el("canvas", { class: "view", tabindex: 0, role: "img", "aria-label": "detector with spots; arrow keys move, plus and minus zoom, 0 shows all, n and p go to the next and previous spot" });
    this.lengthened = this.typicalLength();
    this.element = nb.el("div", { class: "viewer" }, this.controls(), this.canvas, (this.said = nb.el("p", { class: "note said" }, "\u00a0")));
    this.listen();
    nb.onSelect(() => this.paint());
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  // The world is the detector's plane in mm; `view` maps it to the canvas.
  fit() {
    const all = this.data.panels.flatMap((p) => [[0, 0], [p.size[0], 0], [0, p.size[1]], p.size].map((c) => nb.place(p, this.when, ...c)));
    const [x0, x1] = nb.range(all.map((c) => c[0])), [y0, y1] = nb.range(all.map((c) => c[1]));
    const scale = Math.min(this.width / (x1 - x0), this.height / (y1 - y0));
    this.view = { scale, x: this.width / 2 - (scale * (x0 + x1)) / 2, y: this.height / 2 - (scale * (y0 + y1)) / 2 };
    this.whole = scale;
    return [x1 - x0, y1 - y0];
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width || width === this.width) return;
    this.width = this.height = width;
    const [across, down] = this.fit();
    this.height = Math.round(Math.min(Math.max((width * down) / across, 240), Math.max(420, window.innerHeight * 0.85)));
    this.canvas.style.height = `${this.height}px`;
    this.canvas.width = width * ratio;
    this.canvas.height = this.height * ratio;
    this.fit();
    this.paint();
  }

  controls() {
    const tick = (name, label, colour) => nb.el("label", {}, nb.el("input", { type: "checkbox", checked: this.shown[name], name, onchange: (e) => this.set(() => (this.shown[name] = e.target.checked)) }), colour ? nb.el("i", { style: `background:var(--${colour})` }) : null, label);
    const slide = (label, range, change, said) => nb.el("label", {}, label, nb.el("input", { type: "range", ...range, oninput: (e) => this.set(() => change(Number(e.target.value))) }), said);
    const when = (value, label) => nb.el("label", {}, nb.el("input", { type: "radio", name: "when", value, checked: this.when === value, onchange: () => this.set(() => (this.when = value)) }), label);
    const frames = this.data.frames.map((f, i) => nb.el("option", { value: i }, f.name));
    return nb.el("div", { class: "controls" },
      this.data.moved ? nb.el("span", {}, when("start", "before"), when("end", "after")) : null,
      frames.length > 1 ? nb.el("select", { "aria-label": "frame", onchange: (e) => this.set(() => (this.frame = Number(e.target.value))) }, ...frames) : null,
      frames.length ? tick("frame", "frame") : null, tick("panels", "panels"), this.data.panels.length > 1 ? tick("names", "names") : null,
      this.data.beam ? tick("rings", "resolution") : null, tick("observed", "observed", "used"), tick("predicted", "predicted", "warm"),
      this.data.moved ? tick("residuals", "residuals", "used") : null, this.data.spots.state.includes(2) ? tick("rejected", "rejected", "rejected") : null,
      frames.length ? slide("contrast", { min: -1, max: 1.5, step: 0.05, value: 0 }, (v) => (this.contrast = 10 ** v)) : null,
      this.data.moved ? slide("lengthened", { min: 0, max: 3.5, step: 0.05, value: Math.log10(this.lengthened) }, (v) => { this.lengthened = 10 ** v; this.factor.textContent = ` × ${nb.short(Math.round(this.lengthened))}`; }, (this.factor = nb.el("span", {}, ` × ${nb.short(Math.round(this.lengthened))}`))) : null,
      nb.el("button", { type: "button", onclick: () => this.set(() => this.fit()) }, "whole detector"));
  }

  set(change) {
    change();
    this.paint();
  }

  // So that a typical residual after the fit is a visible arrow.
  typicalLength() {
    const s = this.data.spots, squares = [];
    s.state.forEach((state, i) => {
      if (state < 2 && s.end_fast_px[i] !== null && s.observed_fast_px[i] !== null) squares.push((s.observed_fast_px[i] - s.end_fast_px[i]) ** 2 + (s.observed_slow_px[i] - s.end_slow_px[i]) ** 2);
    });
    if (!squares.length) return 1;
    const rms = Math.sqrt(squares.reduce((a, b) => a + b) / squares.length);
    const across = Math.max(...this.data.panels.map((p) => p.size[0])) * Math.sqrt(this.data.panels.length);
    return Math.min(3000, Math.max(1, (0.04 * across) / Math.max(rms, 1e-6)));
  }

  listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let held = null, moved = false;
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== this.canvas) return; // the page scrolls until the picture is clicked
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), ...at(event));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      held = at(event);
      moved = false;
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const now = at(event);
      if (!held) return this.tell(this.nearest(...now));
      if (Math.hypot(now[0] - held[0], now[1] - held[1]) < 3 && !moved) return null;
      moved = true;
      this.view.x += now[0] - held[0];
      this.view.y += now[1] - held[1];
      held = now;
      return this.paint();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      held = null;
      const found = moved ? null : this.nearest(...at(event));
      if (found !== null) nb.select(found);
    });
    this.canvas.addEventListener("dblclick", (event) => this.zoom(2, ...at(event)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const step = 60, centre = [this.width / 2, this.height / 2];
    const pan = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (pan) this.set(() => { this.view.x += pan[0]; this.view.y += pan[1]; });
    else if (event.key === "+" || event.key === "=") this.zoom(1.4, ...centre);
    else if (event.key === "-") this.zoom(1 / 1.4, ...centre);
    else if (event.key === "0") this.set(() => this.fit());
    else if (event.key === "n" || event.key === "p") this.next(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  next(step) {
    const rows = this.data.spots.state.map((_, i) => i).filter((i) => this.visible(i));
    if (!rows.length) return;
    const now = rows.indexOf(nb.selected);
    nb.select(rows[now < 0 ? 0 : (now + step + rows.length) % rows.length]);
  }

  zoom(factor, x, y) {
    const scale = Math.min(Math.max(this.view.scale * factor, this.whole / 2), this.whole * 400);
    const real = scale / this.view.scale;
    this.view = { scale, x: x - real * (x - this.view.x), y: y - real * (y - this.view.y) };
    this.paint();
  }

  visible(i) {
    return this.data.spots.observed_fast_px[i] !== null && (this.data.spots.state[i] < 2 || this.shown.rejected);
  }

  screen(panel, fast, slow) {
    const [x, y] = nb.place(this.data.panels[panel], this.when, fast, slow);
    return [this.view.x + this.view.scale * x, this.view.y + this.view.scale * y];
  }

  // The spot under the pointer; among those that are drawn.
  nearest(x, y) {
    let best = null, least = 12;
    const s = this.data.spots;
    s.state.forEach((_, i) => {
      if (!this.visible(i)) return;
      const [u, v] = this.screen(s.panel[i], s.observed_fast_px[i], s.observed_slow_px[i]);
      const away = Math.hypot(u - x, v - y);
      if (away < least) [best, least] = [i, away];
    });
    return best;
  }

  tell(spot) {
    const s = this.data.spots;
    this.canvas.style.cursor = spot === null ? "grab" : "pointer";
    if (spot === null) this.said.textContent = "\u00a0";
    else this.said.textContent = `${nb.spotName(s, spot)} at ${nb.fixed(s.observed_fast_px[spot], 1)}, ${nb.fixed(s.observed_slow_px[spot], 1)} px of panel ${this.data.panels[s.panel[spot]].name}${s.reason[spot] ? `: ${s.reason[spot]}` : ""}`;
  }

  paint() {
    if (this.width) nb.paintViewer(this);
  }
};
