"use strict";
// The charts of the report: convergence, residuals, z, correlations.

nb.convergence = (history, wanted) => {
  if (!history.length) return null;
  const runs = [];
  for (const row of history) {
    if (!runs.length || runs[runs.length - 1].stage !== row.stage) runs.push({ stage: row.stage, rows: [] });
    runs[runs.length - 1].rows.push(row);
  }
  const bands = runs.map((run, i) => ({ from: run.rows[0].iteration - 0.5, to: run.rows[run.rows.length - 1].iteration + 0.5, label: run.stage, odd: i % 2 === 1 }));
  const x = { label: "iteration", range: [history[0].iteration - 0.5, history[history.length - 1].iteration + 0.5] };
  const lines = (name, colour, label) => runs.map((run, i) => ({ kind: "line", markers: true, x: run.rows.map((r) => r.iteration), y: run.rows.map((r) => r[name]), colour, label: i ? null : label }));
  if (wanted === "loss") return nb.chart({ x, bands, y: { label: "loss (each stage has its own)", log: true }, series: lines("loss", nb.colour("soft")) });
  const series = [...lines("rms_fast_px", nb.colour("used"), "fast"), ...lines("rms_slow_px", nb.colour("warm"), "slow")];
  return series.some((s) => s.y.some((v) => v !== null)) ? nb.chart({ x, bands, y: { label: "spot rms, px", log: true }, series }) : null;
};

nb.AGAINST = {
  resolution: { label: "resolution, Å", of: (spots, i) => (spots.d[i] ? 1 / spots.d[i] ** 2 : null), format: (tick) => (tick > 0 ? (1 / Math.sqrt(tick)).toFixed(2) : "∞") },
  counts: { label: "counts", log: true, of: (spots, i) => (spots.counts[i] > 0 ? spots.counts[i] : null) },
  frame: { label: "frame", of: (spots, i) => spots.frame[i] },
  "fast axis": { label: "fast, px", of: (spots, i) => spots.observed_fast_px[i] },
  "slow axis": { label: "slow, px", of: (spots, i) => spots.observed_slow_px[i] },
  panel: { label: "panel", of: (spots, i) => spots.panel[i] },
};

nb.residualChart = (data) => {
  const spots = data.spots;
  const seen = spots.state.map((_, i) => i).filter((i) => spots.state[i] < 2 && spots.radial_px[i] !== null);
  if (!seen.length) return null;
  const drawing = nb.el("div", {});
  const show = (name) => {
    const against = nb.AGAINST[name];
    const of = (column, colour, label) => ({ kind: "points", x: seen.map((i) => against.of(spots, i)), y: seen.map((i) => spots[column][i]), colour, label, spots: seen, names: (n) => `${nb.spotName(spots, seen[n])} ${label} ${nb.fixed(spots[column][seen[n]])} px` });
    drawing.replaceChildren(nb.chart({ x: { label: against.label, log: against.log, format: against.format }, y: { label: "observed − predicted, px" }, series: [of("radial_px", nb.colour("used"), "radial"), of("tangential_px", nb.colour("warm"), "tangential")] }));
  };
  const choice = nb.el("select", { "aria-label": "residuals against", onchange: (event) => show(event.target.value) }, ...Object.keys(nb.AGAINST).map((name) => nb.el("option", {}, name)));
  show("resolution");
  return nb.el("div", {}, nb.el("label", { class: "note" }, "residuals against ", choice), drawing);
};

nb.zChart = (z) => {
  if (!z) return null;
  const total = z.counts.reduce((a, b) => a + b), width = z.edges[1] - z.edges[0];
  const middle = z.counts.map((_, i) => (z.edges[i] + z.edges[i + 1]) / 2);
  const share = z.counts.map((n) => n / total / width);
  const normal = middle.map((v) => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI));
  const floor = Math.max(1e-6, 0.3 / (total * width));
  return nb.chart({
    x: { label: "z = (observed − model) / σ", range: [z.edges[0], z.edges[z.edges.length - 1]] },
    y: { label: "share of pixels", log: true, range: [floor, 1] },
    title: z.sigma === null ? "residuals of all pixels" : `residuals of all pixels: σ(z) = ${nb.fixed(z.sigma)}`,
    series: [
      { kind: "bars", x: z.edges.slice(0, -1), to: z.edges.slice(1), y: share, colour: nb.colour("used"), label: "pixels" },
      { kind: "line", x: middle, y: normal.map((v) => (v > floor ? v : null)), colour: nb.colour("warm"), label: "noise alone" },
    ],
  });
};

// The correlation matrix as a heat map that names the pair under the pointer.
nb.heatMap = (table) => {
  if (!table || !table.names.length) return null;
  const n = table.names.length, cell = Math.max(4, Math.min(26, Math.floor(560 / n)));
  const canvas = nb.el("canvas", { width: n * cell, height: n * cell, class: "heat", tabindex: 0, role: "img", "aria-label": "correlations of the parameters" });
  const context = canvas.getContext("2d");
  const said = nb.el("p", { class: "note said" }, "Point at a cell for its pair.");
  table.matrix.forEach((row, i) =>
    row.forEach((value, j) => {
      context.fillStyle = value === null ? nb.colour("line") : `rgb(${nb.ramp("residual", (value + 1) / 2).join(",")})`;
      context.fillRect(j * cell, i * cell, cell, cell);
    }),
  );
  let at = [0, 0];
  const tell = () => (said.textContent = `${table.names[at[0]]} with ${table.names[at[1]]}: ${nb.fixed(table.matrix[at[0]][at[1]], 3)}`);
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect(), to = (v, size) => Math.min(n - 1, Math.max(0, Math.floor((v / size) * n)));
    at = [to(event.clientY - box.top, box.height), to(event.clientX - box.left, box.width)];
    tell();
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    at = at.map((v, i) => Math.min(n - 1, Math.max(0, v + move[i])));
    tell();
  });
  const names = nb.el("ol", { class: "names", style: `line-height:${cell}px;font-size:${Math.min(12, cell * 0.8)}px` }, ...table.names.map((name) => nb.el("li", {}, name)));
  return nb.el("div", {}, nb.el("div", { class: "heatrow" }, cell >= 9 ? names : null, canvas), said);
};
