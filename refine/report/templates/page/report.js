"use strict";
// The report: everything is drawn from the data that the page carries.
(async () => {
  document.querySelectorAll("table.sortable").forEach((table) => {
    nb.sortable(table);
    nb.filter(table);
  });
  let data;
  try {
    data = await nb.unpack("data");
  } catch (error) {
    const said = `The drawings' data cannot be read (${error.message}): the file may have been cut short, or the browser is older than 2023. The tables are complete.`;
    document.getElementById("broken").textContent = said;
    document.getElementById("broken").hidden = false;
    document.querySelectorAll(".drawn").forEach((section) => (section.hidden = true));
    return;
  }
  data.moved = data.moved !== false;
  const drawings = () => {
    nb.draw("convergence-loss", () => nb.convergence(data.history, "loss"));
    nb.draw("convergence-rms", () => nb.convergence(data.history, "rms"));
    nb.draw("residuals", () => nb.residualChart(data));
    nb.draw("z", () => nb.zChart(data.z));
    nb.draw("correlation", () => nb.heatMap(data.correlation));
  };
  nb.draw("card", () => nb.spotCard(data));
  nb.draw("viewer", () => (nb.viewer = new nb.Viewer(data)).element);
  nb.draw("gallery", () => nb.gallery(data));
  nb.draw("solid", () => nb.solid(data));
  nb.draw("spot-table", () => nb.spotTable(data));
  drawings();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawings();
    nb.viewer.paint();
  });
  document.body.dataset.drawn = "true";
})();
