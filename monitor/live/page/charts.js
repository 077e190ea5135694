"use strict";

/* The two pictures by round, drawn by uPlot; its colours are those of the style sheet. */

const Charts = (() => {
  const HEIGHT = 240, NARROW = 180;
  const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}%`);
  const short = (value) => Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  const shown = (value) => (value === null || value === undefined ? "–" : short(value));

  /** The colours of the style sheet, as it has them now. */
  function palette() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  }

  function axis(colour, more = {}) {
    return { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, ...more };
  }

  const ROUNDS = { label: "round", value: (_, round) => round ?? "–" };
  const whole = (_, splits) => splits.map((value) => (Number.isInteger(value) ? value : ""));

  /** Rejected candidates are crosses: colour is not the only sign. */
  function crosses(colour) {
    return (u, series) => {
      const [from, to] = u.series[0].idxs ?? [0, u.data[0].length - 1];
      const { ctx } = u, size = 4 * devicePixelRatio;
      ctx.save();
      ctx.strokeStyle = colour("poisoned");
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.beginPath();
      for (let i = from; i <= to; i++) {
        const value = u.data[series][i];
        if (value === null || value === undefined) continue;
        const x = u.valToPos(u.data[0][i], "x", true), y = u.valToPos(value, "y", true);
        ctx.moveTo(x - size, y - size); ctx.lineTo(x + size, y + size);
        ctx.moveTo(x - size, y + size); ctx.lineTo(x + size, y - size);
      }
      ctx.stroke();
      ctx.restore();
      return false;
    };
  }

  function accuracyOptions(colour) {
    return {
      scales: { x: { time: false }, y: { range: [0, 1] } },
      axes: [axis(colour, { values: whole }), axis(colour, { values: (_, splits) => splits.map((v) => `${Math.round(100 * v)}%`), size: 46 })],
      series: [
        ROUNDS,
        { label: "accuracy", stroke: colour("clean"), width: 2, points: { show: false }, value: (_, v) => percent(v) },
        { label: "rejected candidate", stroke: colour("poisoned"), paths: () => null, points: { show: crosses(colour) }, value: (_, v) => percent(v) },
        { label: "backdoor success", stroke: colour("backdoor"), width: 2, dash: [6, 4], points: { show: false }, value: (_, v) => percent(v) },
      ],
    };
  }

  function networkOptions(colour) {
    return {
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, high || 1] }, bytes: { range: (_, low, high) => [0, high || 1] } },
      axes: [
        axis(colour, { values: whole }),
        axis(colour, { values: (_, splits) => splits.map(short), size: 46 }),
        axis(colour, { scale: "bytes", side: 1, grid: { show: false }, values: (_, splits) => splits.map((v) => `${short(v)}B`), size: 52 }),
      ],
      series: [
        ROUNDS,
        { label: "updates/s", stroke: colour("clean"), width: 2, points: { show: false }, value: (_, v) => shown(v) },
        { label: "bytes in", scale: "bytes", stroke: colour("backdoor"), width: 1, points: { show: false }, value: (_, v) => shown(v) },
        { label: "bytes out", scale: "bytes", stroke: colour("muted"), width: 1, dash: [4, 3], points: { show: false }, value: (_, v) => shown(v) },
      ],
    };
  }

  const accuracyData = (rows) => [
    rows.map((row) => row.round),
    rows.map((row) => row.accuracy),
    rows.map((row) => (row.accepted === false ? row.candidate : null)),
    rows.map((row) => row.backdoor),
  ];

  const networkData = (rows) => [
    rows.map((row) => row.round),
    rows.map((row) => row.rate),
    rows.map((row) => row.bytesIn),
    rows.map((row) => row.bytesOut),
  ];

  /** One picture in an element, made anew when the colours change. */
  class Chart {
    constructor(place, options, data) {
      this.place = place; this.options = options; this.data = data; this.rows = [];
      this.paint();
      new ResizeObserver(() => this.plot.setSize(this.size())).observe(place);
    }

    size() {
      const width = Math.max(200, this.place.clientWidth);
      return { width, height: width < 500 ? NARROW : HEIGHT };
    }

    paint() {
      this.plot?.destroy();
      this.plot = new uPlot({ ...this.size(), ...this.options(palette()) }, this.data(this.rows), this.place);
    }

    draw(rows) {
      this.rows = rows;
      const data = this.data(rows);
      this.plot.setData(data);
      if (this.plot.cursor.idx == null) this.plot.setLegend({ idx: rows.length - 1 }); // the latest
      data.forEach((values, i) => {
        const show = i === 0 || values.some((value) => value !== null);
        if (this.plot.series[i].show !== show && rows.length) this.plot.setSeries(i, { show });
      });
    }
  }

  return {
    percent, short, palette,
    accuracy: (place) => new Chart(place, accuracyOptions, accuracyData),
    network: (place) => new Chart(place, networkOptions, networkData),
  };
})();
