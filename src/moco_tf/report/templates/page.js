"use strict";
(() => {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const PALETTE = 8;
  const shown = (value) => {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return String(+value.toPrecision(5));
  };

  const plots = [];
  const draw = (figure) => {
    const box = figure.querySelector(".plot");
    const { x, lines, data } = JSON.parse(figure.querySelector("script").textContent);
    const axis = { stroke: () => color("--quiet"), grid: { stroke: () => color("--edge"), width: 1 },
      ticks: { stroke: () => color("--edge"), width: 1 }, font: "12px sans-serif" };
    const series = lines.map((line) => ({
      label: line.name, stroke: () => color("--c" + (line.color % PALETTE)), spanGaps: true,
      width: line.dashed ? 1.25 : 2, dash: line.dashed ? [6, 4] : undefined,
      points: { show: (u, i) => !line.dashed && u.data[i].filter((v) => v != null).length <= 16, size: 5 },
      value: (u, v) => shown(v),
    }));
    const options = {
      width: Math.max(box.clientWidth, 160), height: 210, scales: { x: { time: false } },
      axes: [{ ...axis, size: 28 }, { ...axis, size: 56, values: (u, ticks) => ticks.map(shown) }],
      series: [{ label: x, value: (u, v) => shown(v) }, ...series],
      cursor: { focus: { prox: 24 }, sync: { key: x, setSeries: false } }, legend: { live: true },
      // A line has a point at a place of its own: under the pointer the nearest one counts.
      hooks: {},
    };
    options.cursor.dataIdx = (u, which, place, at) => nearest(u.data[0], u.data[which], place, at);
    plots.push([box, new uPlot(options, data, box)]);
  };
  const nearest = (x, y, place, at) => {
    if (y[place] != null) return place;
    let left = place, right = place;
    while (left > 0 && y[left] == null) left--;
    while (right < y.length - 1 && y[right] == null) right++;
    if (y[left] == null) return right;
    if (y[right] == null) return left;
    return at - x[left] <= x[right] - at ? left : right;
  };
  document.querySelectorAll("figure.chart").forEach(draw);

  const resize = () => plots.forEach(([box, plot]) =>
    plot.setSize({ width: Math.max(box.clientWidth, 160), height: 210 }));
  const redraw = () => plots.forEach(([, plot]) => plot.redraw(false, true));
  addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", () => { resize(); redraw(); });
})();
