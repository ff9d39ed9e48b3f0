"use strict";
// Charts in SVG: points, lines and bars between two axes; a point that stands for a spot selects it.

nb.ticks = (low, high, log, most = 6) => {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const step of high / low > 1e3 ? [1] : [1, 2, 5]) {
        const value = step * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    const every = Math.ceil(found.length / most);
    return found.filter((_, i) => i % every === 0);
  }
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) found.push(Number(value.toPrecision(10)));
  return found;
};

nb.range = (values, log) => {
  const finite = values.filter((v) => v !== null && Number.isFinite(v) && (!log || v > 0));
  if (!finite.length) return log ? [0.1, 1] : [0, 1];
  let low = finite.reduce((a, b) => Math.min(a, b)), high = finite.reduce((a, b) => Math.max(a, b));
  if (log) return [low / 1.15, high * 1.15];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const margin = 0.04 * (high - low);
  return [low - margin, high + margin];
};

// series: {kind: "points" | "line" | "bars", x, y, colour, label, spots}; axis: {label, log, range, format}
nb.chart = ({ x, y, series, bands = [], title, width = 520, height = 300 }) => {
  const edge = { left: 58, right: 12, top: title ? 30 : 14, bottom: 42 };
  const used = series.filter((s) => s.x.length);
  const xs = x.range || nb.range(used.flatMap((s) => s.x), x.log), ys = y.range || nb.range(used.flatMap((s) => s.y), y.log);
  const scale = (axis, [low, high], from, to) => (value) => {
    const share = axis.log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return from + share * (to - from);
  };
  const px = scale(x, xs, edge.left, width - edge.right), py = scale(y, ys, height - edge.bottom, edge.top);
  const root = nb.svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": title || `${y.label} against ${x.label}` });
  for (const band of bands) {
    const [from, to] = [px(Math.max(band.from, xs[0])), px(Math.min(band.to, xs[1]))];
    root.append(nb.svg("rect", { x: from, y: edge.top, width: Math.max(0, to - from), height: height - edge.top - edge.bottom, class: band.odd ? "band odd" : "band" }));
    root.append(nb.svg("text", { x: (from + to) / 2, y: edge.top - 4, class: "small", "text-anchor": "middle" }, band.label));
  }
  for (const tick of nb.ticks(...xs, x.log)) {
    root.append(nb.svg("line", { x1: px(tick), x2: px(tick), y1: edge.top, y2: height - edge.bottom, class: "grid" }));
    root.append(nb.svg("text", { x: px(tick), y: height - edge.bottom + 15, class: "tick", "text-anchor": "middle" }, (x.format || nb.short)(tick)));
  }
  for (const tick of nb.ticks(...ys, y.log)) {
    root.append(nb.svg("line", { x1: edge.left, x2: width - edge.right, y1: py(tick), y2: py(tick), class: "grid" }));
    root.append(nb.svg("text", { x: edge.left - 6, y: py(tick) + 4, class: "tick", "text-anchor": "end" }, (y.format || nb.short)(tick)));
  }
  used.forEach((s) => root.append(nb.chartSeries(s, px, py, height - edge.bottom, y.log)));
  root.append(nb.svg("text", { x: (edge.left + width - edge.right) / 2, y: height - 8, class: "label", "text-anchor": "middle" }, x.label));
  root.append(nb.svg("text", { x: 14, y: (edge.top + height - edge.bottom) / 2, class: "label", "text-anchor": "middle", transform: `rotate(-90 14 ${(edge.top + height - edge.bottom) / 2})` }, y.label));
  if (title) root.append(nb.svg("text", { x: edge.left, y: 16, class: "title" }, title));
  return nb.el("div", {}, root, nb.legend(used));
};

nb.legend = (series) => {
  const named = series.filter((s) => s.label);
  if (named.length < 2) return null;
  return nb.el("p", { class: "key" }, ...named.map((s) => nb.el("span", {}, nb.el("i", { style: `background:${s.colour}` }), s.label)));
};

nb.chartSeries = (s, px, py, floor, log) => {
  const group = nb.svg("g", {});
  const drawn = s.x.map((x, i) => [x, s.y[i], i]).filter(([x, y]) => x !== null && y !== null && Number.isFinite(y) && (!log || y > 0));
  if (s.kind === "line" && drawn.length)
    group.append(nb.svg("polyline", { points: drawn.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" "), fill: "none", stroke: s.colour, "stroke-width": 1.6 }));
  if (s.kind === "bars")
    for (const [x, y, i] of drawn) {
      const left = px(x), right = px(s.to[i]);
      group.append(nb.svg("rect", { x: left, y: py(y), width: Math.max(0.5, right - left), height: Math.max(0, floor - py(y)), fill: s.colour, opacity: 0.55 }));
    }
  if (s.kind === "points" || s.markers)
    for (const [x, y, i] of drawn) {
      const spot = s.spots ? s.spots[i] : null;
      const point = nb.svg("circle", { cx: px(x).toFixed(1), cy: py(y).toFixed(1), r: 2.6, fill: s.colour, class: spot === null ? null : "pick" }, nb.svg("title", {}, s.names ? s.names(i) : `${nb.short(x)}, ${nb.short(y)}`));
      if (spot !== null) {
        point.dataset.spot = spot;
        point.addEventListener("click", () => nb.select(spot));
      }
      group.append(point);
    }
  return group;
};
