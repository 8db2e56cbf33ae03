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
      legend: { live: true },
      // A line has a point at a place of its own: under the pointer the nearest one counts.
      cursor: { focus: { prox: 24 }, sync: { key: x, setSeries: false },
        dataIdx: (u, which, place, at) => nearest(u.data[0], u.data[which], place, at) },
    };
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

  document.querySelectorAll("figure.map").forEach((figure) => {
    const svg = figure.querySelector("svg"), tip = figure.querySelector(".tip"), thumb = tip.querySelector(".thumb");
    const { columns, size, tips } = JSON.parse(figure.querySelector("script").textContent);
    const groups = [...svg.querySelectorAll("g")], points = [...svg.querySelectorAll("circle")];
    const places = points.map((point) => [+point.getAttribute("cx"), +point.getAttribute("cy")]);
    const scale = 96 / size, near = 15;
    thumb.style.backgroundImage = `url(${figure.querySelector(".sprite").src})`;
    thumb.style.backgroundSize = `${columns * size * scale}px auto`;
    let last = null;
    const hide = () => { tip.hidden = true; if (last) last.classList.remove("near"); last = null; };
    const show = (event) => {
      const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * unit, y = (event.clientY - box.top) * unit;
      let best = (near * unit) ** 2, found = null;
      places.forEach(([cx, cy], i) => {
        const distance = (cx - x) ** 2 + (cy - y) ** 2;
        if (distance < best && !points[i].parentNode.classList.contains("off")) { best = distance; found = points[i]; }
      });
      if (!found) return hide();
      if (found === last) return;
      hide();
      last = found;
      found.classList.add("near");
      const i = +found.dataset.i, frame = tip.parentNode.getBoundingClientRect();
      thumb.style.backgroundPosition = `${-(i % columns) * 96}px ${-Math.floor(i / columns) * 96}px`;
      tip.querySelector(".words").textContent = tips[i];
      tip.hidden = false;
      const left = event.clientX - frame.left, top = event.clientY - frame.top;
      tip.style.left = `${Math.max(0, left + 14 + tip.offsetWidth > frame.width ? left - tip.offsetWidth - 14 : left + 14)}px`;
      tip.style.top = `${Math.max(0, Math.min(top, frame.height - tip.offsetHeight))}px`;
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
    figure.querySelectorAll(".legend button").forEach((button, n) => button.addEventListener("click", () => {
      const off = groups[n].classList.toggle("off");
      button.setAttribute("aria-pressed", String(!off));
    }));
  });

  const resize = () => plots.forEach(([box, plot]) =>
    plot.setSize({ width: Math.max(box.clientWidth, 160), height: 210 }));
  const redraw = () => plots.forEach(([, plot]) => plot.redraw(false, true));
  addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", () => { resize(); redraw(); });
})();
