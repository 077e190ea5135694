"use strict";

/* Every agent as a square, and those who are flagged most as a table. */

const Agents = (() => {
  const MOST = 12; // agents in the table

  const sizeFor = (n) => (n <= 150 ? 16 : n <= 1500 ? 10 : n <= 6000 ? 6 : 4);

  function stateOf(board, name) {
    const suspect = board.suspects.get(name);
    if (suspect?.state === "in quarantine" || suspect?.state === "out permanently") return "quarantined";
    if (suspect?.state === "flagged") return "flagged";
    return board.agents.get(name) ? "online" : "offline";
  }

  /** An agent in words. */
  function said(board, name) {
    const suspect = board.suspects.get(name);
    const there = board.agents.get(name) ? "online" : "offline";
    const groups = Groups.history(board, name), then = groups && `; ${groups}`;
    if (!suspect) return `${name}: ${there}${then}`;
    const how = suspect.suspicion === null ? "" : `, suspicion ${suspect.suspicion.toFixed(2)}`;
    const by = suspect.detector ? ` by ${suspect.detector}` : "";
    return `${name}: ${there}${how}${by}${suspect.state ? `, ${suspect.state}` : ""}${then}`;
  }

  class Map2D {
    constructor({ canvas, line, tip }) {
      Object.assign(this, { canvas, line, tip });
      this.names = []; this.drawn = ""; this.size = 16; this.columns = 1; this.board = null;
      this.at = null; // the agent that the keyboard is at
      canvas.addEventListener("mousemove", (event) => this.point(event));
      canvas.addEventListener("mouseleave", () => tip.hide());
      canvas.addEventListener("keydown", (event) => this.move(event));
      new ResizeObserver(() => this.board && this.draw(this.board)).observe(canvas.parentElement);
    }

    draw(board) {
      this.board = board;
      const there = new Set([...board.agents.keys(), ...board.suspects.keys()]);
      const same = there.size === this.names.length && this.names.every((name) => there.has(name));
      if (!same) this.names = [...there].sort(); // sorting costs more than all the rest
      const width = this.canvas.clientWidth, scale = devicePixelRatio;
      const states = this.names.map((name) => stateOf(board, name));
      const picture = [board.name, width, this.at, Charts.colour("ground"), ...states].join();
      if (picture === this.drawn) return;
      this.drawn = picture;
      this.size = sizeFor(this.names.length);
      this.columns = Math.max(1, Math.floor(width / this.size));
      const height = Math.max(1, Math.ceil(this.names.length / this.columns)) * this.size;
      Object.assign(this.canvas, { width: width * scale, height: height * scale });
      this.canvas.style.height = `${height}px`;
      const ctx = this.canvas.getContext("2d");
      ctx.scale(scale, scale);
      states.forEach((state, i) => this.square(ctx, i, state));
    }

    /** Offline is hollow, flagged has a dot, quarantined a cross: colour is not the only sign. */
    square(ctx, i, state) {
      const gap = this.size > 6 ? 2 : 1, edge = this.size - gap;
      const x = (i % this.columns) * this.size, y = Math.floor(i / this.columns) * this.size;
      ctx.fillStyle = ctx.strokeStyle = Charts.colour({ online: "clean", offline: "muted", flagged: "flagged", quarantined: "poisoned" }[state]);
      if (state === "offline") ctx.strokeRect(x + 0.5, y + 0.5, edge - 1, edge - 1);
      else ctx.fillRect(x, y, edge, edge);
      ctx.strokeStyle = ctx.fillStyle = Charts.colour("ground");
      if (state === "flagged") ctx.fillRect(x + edge / 3, y + edge / 3, edge / 3, edge / 3);
      if (state === "quarantined") {
        ctx.beginPath();
        ctx.moveTo(x, y); ctx.lineTo(x + edge, y + edge); ctx.moveTo(x + edge, y); ctx.lineTo(x, y + edge);
        ctx.stroke();
      }
      if (this.names[i] !== this.at) return;
      ctx.strokeStyle = Charts.colour("text");
      ctx.lineWidth = 2;
      ctx.strokeRect(x, y, edge, edge);
      ctx.lineWidth = 1;
    }

    point(event) {
      const i = Math.floor(event.offsetY / this.size) * this.columns + Math.floor(event.offsetX / this.size);
      if (event.offsetX >= this.columns * this.size || i >= this.names.length) { this.tip.hide(); return; }
      this.line.textContent = said(this.board, this.names[i]);
      this.tip.show(this.line.textContent, event);
    }

    move(event) {
      const step = {
        ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, Home: -Infinity, End: Infinity,
      }[event.key];
      if (!step || !this.names.length) return;
      event.preventDefault();
      const place = this.names.indexOf(this.at), next = place < 0 && Number.isFinite(step) ? 0 : place + step;
      this.at = this.names[Math.max(0, Math.min(this.names.length - 1, next))];
      this.draw(this.board);
      this.line.textContent = said(this.board, this.at);
    }
  }

  /** The most suspected agents, worst first. */
  function suspects(board) {
    const weight = (suspect) => (suspect.state ? 1 : 0) + (suspect.suspicion ?? 0);
    return [...board.suspects].sort(([a, x], [b, y]) => weight(y) - weight(x) || (a < b ? -1 : 1)).slice(0, MOST);
  }

  function table(made, board, quarantined) {
    const found = suspects(board);
    made.hidden = !found.length;
    made.caption.textContent = `Most suspected; ${quarantined.toLocaleString("en")} in quarantine`;
    made.tBodies[0].replaceChildren(...found.map(([name, suspect]) => {
      const row = document.createElement("tr");
      const value = suspect.suspicion === null ? "" : suspect.suspicion.toFixed(2);
      for (const cell of [name, value, suspect.detector, suspect.state]) row.insertCell().textContent = cell;
      return row;
    }));
  }

  return { Map: Map2D, table };
})();
