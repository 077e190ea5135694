"use strict";

/* The two pictures by round, drawn by uPlot; its colours are those of the style sheet. */

const Charts = (() => {
  const HEIGHT = 240, NARROW = 180;
  const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}%`);
  /** A measurement by name: accuracies are shares, the others numbers. */
  const measure = (name, value) => {
    if (value === null || value === undefined) return "–";
    if (name.endsWith("accuracy") && value >= 0 && value <= 1) return percent(value);
    return Math.abs(value) >= 1e4 && Math.abs(value) < 1e9 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  };
  const compact = Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const short = (value) => compact.format(value);
  const shown = (value) => (value === null || value === undefined ? "–" : short(value));

  let colours = {};

  /** A colour of the style sheet, as red, green and blue: a canvas mistakes the system's own names. */
  function colour(name) {
    if (colours[name] === undefined) {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.className = "probe";
      probe.style.color = `var(--${name})`;
      colours[name] = getComputedStyle(probe).color;
      probe.remove();
    }
    return colours[name];
  }

  /** The style sheet has changed its colours. */
  function recolour() {
    colours = {};
  }

  function axis(more = {}) {
    return { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, ...more };
  }

  const ROUNDS = { label: "round", value: (_, round) => round ?? "–" };
  const whole = (_, splits) => splits.map((value) => (Number.isInteger(value) ? value : ""));
  const ROUND_AXIS = { values: whole, size: 32 };
  const ALONE = { show: (u) => u.data[0].length === 1 }; // a single round makes no line

  /** Rejected candidates are crosses: colour is not the only sign. */
  function crosses(u, series) {
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
  }

  /** From the lowest to the highest value, and a little more. */
  const spread = (_, low, high) => {
    if (low === null || low === undefined) return [0, 1];
    const room = (high - low || Math.abs(high) || 1) / 20;
    return [low - room, high + room];
  };

  /** Of a run of which nobody measured accuracy: its first metric, on an axis of its own. */
  function metricOptions(name) {
    const value = (_, v) => measure(name, v);
    return {
      scales: { x: { time: false }, y: { range: spread } },
      axes: [axis(ROUND_AXIS), axis({ values: (_, splits) => splits.map((v) => measure("", v)), size: 62 })],
      series: [
        ROUNDS,
        { label: name, stroke: colour("clean"), width: 2, points: ALONE, value },
        { label: "rejected candidate", stroke: colour("poisoned"), paths: () => null, points: { show: crosses }, value },
      ],
    };
  }

  const metricData = (name) => (rows) => [
    rows.map((row) => row.round),
    rows.map((row) => row.metrics.get(name) ?? null),
    rows.map((row) => (row.accepted === false ? row.tried.get(name) ?? null : null)),
  ];

  function accuracyOptions() {
    return {
      scales: { x: { time: false }, y: { range: [0, 1] } },
      axes: [axis(ROUND_AXIS), axis({ values: (_, splits) => splits.map((v) => `${Math.round(100 * v)}%`), size: 46 })],
      series: [
        ROUNDS,
        { label: "accuracy", stroke: colour("clean"), width: 2, points: ALONE, value: (_, v) => percent(v) },
        { label: "rejected candidate", stroke: colour("poisoned"), paths: () => null, points: { show: crosses }, value: (_, v) => percent(v) },
        { label: "backdoor success", stroke: colour("backdoor"), width: 2, dash: [6, 4], points: ALONE, value: (_, v) => percent(v) },
      ],
    };
  }

  function networkOptions() {
    return {
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, high || 1] }, bytes: { range: (_, low, high) => [0, high || 1] } },
      axes: [
        axis(ROUND_AXIS),
        axis({ values: (_, splits) => splits.map(short), size: 46 }),
        axis({ scale: "bytes", side: 1, grid: { show: false }, values: (_, splits) => splits.map((v) => `${short(v)}B`), size: 52 }),
      ],
      series: [
        ROUNDS,
        { label: "updates/s", stroke: colour("clean"), width: 2, points: ALONE, value: (_, v) => shown(v) },
        { label: "bytes in", scale: "bytes", stroke: colour("backdoor"), width: 1, points: ALONE, value: (_, v) => shown(v) },
        { label: "bytes out", scale: "bytes", stroke: colour("muted"), width: 1, dash: [4, 3], points: ALONE, value: (_, v) => shown(v) },
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

  /** One picture in an element, made again when the colours change; `line` says what the keyboard is at. */
  class Chart {
    constructor({ place, line }, options, data) {
      Object.assign(this, { place, line, options, data });
      this.rows = [];
      this.at = null; // the round that the keyboard is at
      place.addEventListener("keydown", (event) => this.move(event));
      place.addEventListener("blur", () => this.leave());
      this.paint();
      new ResizeObserver(() => this.plot.setSize(this.size())).observe(place);
    }

    size() {
      const width = Math.max(200, this.place.clientWidth);
      return { width, height: width < 500 ? NARROW : HEIGHT };
    }

    paint() {
      this.plot?.destroy();
      this.plot = new uPlot({ ...this.size(), ...this.options() }, this.data(this.rows), this.place);
    }

    /** Draw something else from now on. */
    become(options, data) {
      Object.assign(this, { options, data });
      this.paint();
    }

    draw(rows) {
      this.rows = rows;
      const data = this.data(rows);
      this.plot.setData(data);
      if (this.at !== null) this.mark();
      else if (this.plot.cursor.idx == null) this.plot.setLegend({ idx: rows.length - 1 }); // the latest
      data.forEach((values, i) => {
        const show = i === 0 || values.some((value) => value !== null);
        if (this.plot.series[i].show !== show && rows.length) this.plot.setSeries(i, { show });
      });
    }

    /** Left and right between rounds, home and end to the first and the last. */
    move(event) {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (!step || !this.rows.length) return;
      event.preventDefault();
      const most = this.rows.length - 1;
      const place = this.at === null ? most - step : this.placeOf(this.at);
      this.at = this.rows[Math.max(0, Math.min(most, place + step))].round;
      this.line.textContent = this.mark();
    }

    /** Where a round is among the rows, or the first after it. */
    placeOf(round) {
      const found = this.rows.findIndex((row) => row.round >= round);
      return found < 0 ? this.rows.length - 1 : found;
    }

    /** Put the cursor where the keyboard is; returns what is there, in words. */
    mark() {
      const idx = this.rows.length ? this.placeOf(this.at) : null;
      if (idx === null) return "";
      this.plot.setCursor({ left: this.plot.valToPos(this.rows[idx].round, "x"), top: 0 }, false);
      this.plot.setLegend({ idx }, false);
      const said = this.plot.series.slice(1).map((series, i) => [series, this.plot.data[i + 1][idx]])
        .filter(([, value]) => value !== null).map(([series, value]) => `${series.label} ${series.value(null, value)}`);
      return `round ${this.rows[idx].round}: ${said.join(", ") || "no data"}`;
    }

    leave() {
      this.at = null;
      this.line.textContent = "";
      this.plot.setCursor({ left: -10, top: -10 });
    }
  }

  /** Accuracy, or as long as nobody has measured it, the first metric; `title` says which. */
  class Quality extends Chart {
    constructor(places) {
      super(places, accuracyOptions, accuracyData);
      this.title = places.title;
      this.metric = "";
    }

    draw(rows) {
      const metric = Board.measured(rows);
      if (metric !== this.metric) {
        this.metric = metric;
        this.rows = rows;
        if (metric) this.become(() => metricOptions(metric), metricData(metric));
        else this.become(accuracyOptions, accuracyData);
        this.title.textContent = `${metric || "Accuracy"} by round`;
      }
      super.draw(rows);
    }
  }

  return {
    percent, measure, short, colour, recolour,
    accuracy: (places) => new Quality(places),
    network: (places) => new Chart(places, networkOptions, networkData),
  };
})();
