// Draws a page's charts with uPlot from the data in the page, again when the window's width or its colour scheme changes.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const narrow = 480;
  // Lines differ by dash as well as by colour; in the marker of the legend too.
  const looks = {
    vermillion: { dash: [3, 4], marker: "dotted" },
    blue: { dash: [10, 5], marker: "dashed" },
    green: { dash: [], marker: "solid" },
    reference: { dash: [6, 3, 1, 3], marker: "dashed" },
  };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const faded = (hex) => `${hex}55`;

  const number = (value) => {
    if (value == null) return "–";
    const size = Math.abs(value);
    const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  };

  // Ticks with as many decimals as tell them apart.
  const ticks = (_, values, axisIndex, space, step) => {
    const digits = (String(step).split(".")[1] ?? "").length;
    return values.map((value) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  };

  // Room for the longest tick and the axis' name beside it.
  const sideSize = (plot, values, axisIndex, cycle) => {
    const axis = plot.axes[axisIndex];
    if (cycle > 1) return axis._size;
    const longest = (values ?? []).reduce((longest, value) => Math.max(longest, value.length), 0);
    return Math.ceil(axis.ticks.size + axis.gap + 8 + longest * 7.5);
  };

  // What the legend shows of a line that has no point just there: its nearest one.
  const nearest = (plot, seriesIndex, at) => {
    const values = plot.data[seriesIndex];
    for (let away = 0; away < values.length; away++) {
      if (values[at - away] != null) return at - away;
      if (values[at + away] != null) return at + away;
    }
    return at;
  };

  // Bars of several series stand side by side, in the order of the legend, around the middle of their class.
  const bars = (chart) => (plot, seriesIndex, first, last) => {
    const [xs, ys] = [plot.data[0], plot.data[seriesIndex]];
    const count = chart.series.length;
    const classWidth = Math.abs(plot.valToPos(chart.bar_width, "x", true) - plot.valToPos(0, "x", true));
    const width = Math.max(1, (classWidth * 0.86) / count);
    const floor = plot.valToPos(0, "y", true);
    const path = new Path2D();
    for (let index = first; index <= last; index++) {
      if (ys[index]) {
        const middle = plot.valToPos(xs[index], "x", true) + (seriesIndex - 1 - (count - 1) / 2) * width;
        const top = plot.valToPos(ys[index], "y", true);
        path.rect(middle - width / 2, top, width, floor - top);
      }
    }
    return { stroke: path, fill: path };
  };

  const series = (chart) => (one) => {
    const stroke = colour(one.tone);
    const common = {
      label: one.name, stroke, width: one.tone === "reference" ? 1.25 : 2, spanGaps: true,
      // uPlot takes dashes in the pixels of the screen, of which a phone has three for one.
      dash: looks[one.tone].dash.map((length) => length * devicePixelRatio),
      points: { show: false }, value: (_, value) => number(value),
    };
    switch (chart.kind) {
      case "bars": return { ...common, width: 1, dash: [], fill: faded(stroke), paths: bars(chart) };
      case "step": return { ...common, paths: uPlot.paths.stepped({ align: 1 }) };
      default: return common;
    }
  };

  const sizeFor = (place) => {
    const width = Math.max(240, Math.floor(place.clientWidth));
    return { width, height: width < narrow ? 240 : 320 };
  };

  const draw = (place) => {
    const chart = charts[Number(place.dataset.chart)];
    const isNarrow = place.clientWidth < narrow;
    const ink = colour("faint");
    const axis = {
      stroke: ink, grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1, size: 6 },
      font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 20, labelGap: 0,
      values: ticks,
    };
    const isBars = chart.kind === "bars";
    const half = isBars ? chart.bar_width / 2 : 0;
    const [first, last] = [chart.data[0][0], chart.data[0].at(-1)];
    const whole = [Math.min(0, first - half), last + half > 0 ? last + half : 1];
    const options = {
      ...sizeFor(place),
      padding: [10, isNarrow ? 8 : 16, 0, 0],
      cursor: { drag: { x: true, y: false }, points: { size: 7 }, ...(!isBars && { dataIdx: nearest }) },
      scales: {
        // Less than the whole is what somebody dragged over.
        x: { time: false, range: (_, low, high) => low <= first && high >= last ? whole : [low, high] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.06 : 1] },
      },
      axes: [
        { ...axis, label: chart.x, size: 34, space: isNarrow ? 40 : 60, ...(isBars && { incrs: [1, 2, 5, 10, 20, 50, 100] }) },
        { ...axis, label: chart.y, size: sideSize },
      ],
      legend: {
        markers: {
          width: (_, index) => chart.series[index - 1]?.tone === "reference" ? 1 : 3,
          stroke: (_, index) => colour(chart.series[index - 1].tone),
          dash: (_, index) => chart.kind === "bars" ? "solid" : looks[chart.series[index - 1].tone].marker,
        },
      },
      series: [{ label: chart.x, value: (_, value) => number(value) }, ...chart.series.map(series(chart))],
    };
    const plot = new uPlot(options, chart.data, place);
    const canvas = plot.ctx.canvas;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${chart.title}. ${chart.note}`);
    return plot;
  };

  const drawn = new Map();
  const drawAgain = (place) => {
    drawn.get(place)?.destroy();
    drawn.set(place, draw(place));
  };
  const places = [...document.querySelectorAll(".plot")];
  places.forEach(drawAgain);

  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const plot = drawn.get(target);
      const size = sizeFor(target);
      if (plot.width === size.width) continue;
      // Axes of a narrow chart differ from those of a wide one.
      if (plot.width < narrow !== size.width < narrow) drawAgain(target);
      else plot.setSize(size);
    }
  });
  places.forEach((place) => resized.observe(place));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => places.forEach(drawAgain));
})();
