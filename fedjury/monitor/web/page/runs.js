"use strict";

/* The runs on the broker, and which of them to show. No page and no network. */

const Runs = (() => {
  const MOST = 200;
  const QUIET = 20000; // milliseconds without a word after which another run may take the place shown

  class Runs {
    constructor() {
      this.boards = new Map(); // name -> board
      this.spoke = new Map(); // name -> when it last said something, what was retained apart
      this.picked = ""; // the run that a person wants to see
      this.shown = null;
    }

    get board() {
      return this.boards.get(this.shown);
    }

    /** Take in a message; returns whether rounds are missing. */
    hear(name, topic, data, live, now) {
      if (!this.boards.has(name) && (data === null || !this.admit(name, live || topic === "manifest"))) return false;
      if (live && (topic === "round" || topic === "log/round")) this.spoke.set(name, now);
      return Board.hear(this.boards.get(name), topic, data);
    }

    /** Make room for a run: those without a manifest go first, which is what strangers make up. */
    admit(name, serious) {
      if (this.boards.size >= MOST) {
        const others = [...this.boards.values()].filter((board) => board.name !== this.shown);
        const quietest = (boards) => boards.sort((a, b) => (this.spoke.get(a.name) ?? 0) - (this.spoke.get(b.name) ?? 0))[0];
        const goes = quietest(others.filter((board) => !board.manifest)) ?? (serious ? quietest(others) : undefined);
        if (goes === undefined) return false;
        this.boards.delete(goes.name);
        this.spoke.delete(goes.name);
      }
      this.boards.set(name, Board.fresh(name));
      return true;
    }

    /** The run to show: the one that was picked; else the one that is shown, as long as it speaks;
    else of those with a manifest the one that spoke last, or one at work. */
    choose(now) {
      const { board } = this;
      if (this.picked) return this.picked;
      if (board && !Board.over(board) && now - (this.spoke.get(this.shown) ?? 0) < QUIET) return this.shown;
      const rank = (one) => [one.manifest !== null, this.spoke.get(one.name) ?? 0, !Board.over(one), one === board];
      const better = (a, b) => {
        const [x, y] = [rank(a), rank(b)], i = x.findIndex((value, at) => value !== y[at]);
        return i >= 0 && x[i] > y[i];
      };
      return [...this.boards.values()].reduce((best, one) => (best && !better(one, best) ? best : one), null)?.name ?? null;
    }

    /** Show this run; what was known of its agents may have changed meanwhile. */
    show(name) {
      this.shown = name;
      if (!this.boards.has(name)) this.admit(name, true);
      this.board.agents.clear();
    }
  }

  return Runs;
})();
