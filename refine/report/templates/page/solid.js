"use strict";
// The panels in three dimensions, before (grey) and after (blue), with the correction exaggerated.

nb.solid = (data) => {
  if (!data.moved) return null;
  const canvas = nb.el("canvas", { class: "solid", tabindex: 0, role: "img", "aria-label": "panels before and after in three dimensions; drag or use the arrow keys to turn" });
  let [turn, tilt, times] = [0.6, 0.9, 1];
  const all = data.panels.flatMap((p) => p.start.corners);
  const middle = [0, 1, 2].map((i) => all.reduce((sum, c) => sum + c[i], 0) / all.length);
  const reach = Math.max(...all.map((c) => Math.hypot(...c.map((v, i) => v - middle[i]))));
  const most = Math.max(...data.panels.flatMap((p) => p.start.corners.map((c, n) => Math.hypot(...c.map((v, i) => p.end.corners[n][i] - v)))));
  times = most > 0 ? Math.max(1, Math.min(1e4, (0.15 * reach) / most)) : 1;
  const paint = () => {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = Math.min(420, width * 0.6);
    if (!width) return;
    canvas.style.height = `${height}px`;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const scale = (0.45 * Math.min(width, height)) / reach;
    const project = (corner) => {
      const [x, y, z] = corner.map((v, i) => v - middle[i]);
      const across = x * Math.cos(turn) + z * Math.sin(turn), deep = -x * Math.sin(turn) + z * Math.cos(turn);
      return [width / 2 + scale * across, height / 2 + scale * (y * Math.cos(tilt - 0.9) + deep * Math.sin(tilt - 0.4))];
    };
    const outline = (corners, colour, fill) => {
      context.beginPath();
      corners.forEach((c) => context.lineTo(...project(c)));
      context.closePath();
      context.strokeStyle = colour;
      context.stroke();
      if (!fill) return;
      context.globalAlpha = 0.12;
      context.fillStyle = colour;
      context.fill();
      context.globalAlpha = 1;
    };
    data.panels.forEach((p) => outline(p.start.corners, nb.colour("faint"), false));
    data.panels.forEach((p) => outline(p.start.corners.map((c, n) => c.map((v, i) => v + times * (p.end.corners[n][i] - v))), nb.colour("used"), true));
    said.textContent = `Corrections drawn ${nb.short(Math.round(times))} times as large; the largest is ${nb.fixed(most, 3)} mm at a corner.`;
  };
  const said = nb.el("p", { class: "note" });
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => (held = null));
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    turn += (event.clientX - held[0]) / 150;
    tilt += (event.clientY - held[1]) / 150;
    held = [event.clientX, event.clientY];
    paint();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (!step) return;
    event.preventDefault();
    turn += step[0];
    tilt += step[1];
    paint();
  });
  const slider = nb.el("input", { type: "range", min: 0, max: 4, step: 0.02, value: Math.log10(times), "aria-label": "how many times larger the corrections are drawn", oninput: (e) => { times = 10 ** Number(e.target.value); paint(); } });
  new ResizeObserver(paint).observe(canvas);
  return nb.el("div", {}, nb.el("label", { class: "note" }, "corrections × ", slider), canvas, said, nb.panelTable(data));
};

// Shift of each panel's centre and its turn, as the detector's plane sees them; rms of its spots.
nb.panelTable = (data) => {
  const s = data.spots;
  const rows = data.panels.map((panel, number) => {
    const centre = (when) => [0, 1, 2].map((i) => panel[when].corners.reduce((sum, c) => sum + c[i], 0) / 4);
    const shift = centre("end").map((v, i) => v - centre("start")[i]);
    const normal = (when) => {
      const c = panel[when].corners, f = c[1].map((v, i) => v - c[0][i]), w = c[3].map((v, i) => v - c[0][i]);
      const n = [f[1] * w[2] - f[2] * w[1], f[2] * w[0] - f[0] * w[2], f[0] * w[1] - f[1] * w[0]];
      return n.map((v) => v / Math.hypot(...n));
    };
    const cosine = normal("start").reduce((sum, v, i) => sum + v * normal("end")[i], 0);
    const tilt = (Math.acos(Math.min(1, cosine)) * 180) / Math.PI;
    const mine = s.state.map((_, i) => i).filter((i) => s.panel[i] === number && s.state[i] === 0 && s.radial_px[i] !== null);
    const rms = mine.length ? Math.sqrt(mine.reduce((sum, i) => sum + s.radial_px[i] ** 2 + s.tangential_px[i] ** 2, 0) / mine.length) : null;
    return nb.el("tr", {}, nb.el("td", {}, panel.name), ...[...shift.map((v) => nb.fixed(v, 4)), nb.fixed(tilt, 3), mine.length, nb.fixed(rms, 3)].map((v) => nb.el("td", { class: "n" }, v)));
  });
  const head = nb.el("tr", {}, ...["panel", "along fast, mm", "along slow, mm", "along the normal, mm", "tilt, °", "spots", "rms, px"].map((label, i) => nb.el("th", { class: i ? "n" : null }, label)));
  const table = nb.el("table", {}, nb.el("tbody", {}, head, ...rows));
  nb.sortable(table);
  return nb.el("div", { class: "scroll tall" }, table);
};
