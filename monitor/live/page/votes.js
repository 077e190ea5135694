"use strict";

/* Rounds, the latest first, each with a row of validators: what they said, and by how much. */

const Votes = (() => {
  const STEP = 40; // rounds shown at once
  const CELLS = 200; // votes shown of a round; the rest is a number
  const SIGN = { clean: "✓", poisoned: "✗", silent: "·" };

  const figure = (value) => (value === null ? "?" : value.toPrecision(3));

  /** A vote in words. */
  function said(vote, row) {
    const who = vote.name || "a validator";
    if (vote.how === "silent") return `round ${row.round}, ${who}: silent`;
    const bytes = vote.bytes ? `, having fetched ${Charts.short(vote.bytes)}B` : "";
    if (vote.score === null) return `round ${row.round}, ${who}: ${vote.how}`;
    const against = `score ${figure(vote.score)} ${vote.score > vote.threshold ? "above" : "within"} threshold ${figure(vote.threshold)}`;
    return `round ${row.round}, ${who}: ${vote.how}, ${against}${bytes}`;
  }

  /** The votes of a round, those without a name where only their number is known. */
  function votesOf(row) {
    if (row.voters.length) return row.voters;
    const nameless = (how) => Array.from({ length: Math.min(row.votes[how], CELLS) }, () => ({ name: "", how, score: null, threshold: null, bytes: null }));
    return ["poisoned", "clean", "silent"].flatMap(nameless);
  }

  const verdictOf = (row) => (row.accepted === null ? "undecided" : row.accepted ? "accepted" : "rejected");

  function element(tag, className, content) {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = content;
    return made;
  }

  function rowOf(row) {
    const item = element("li", verdictOf(row), "");
    item.dataset.round = row.round;
    const mark = { accepted: "✓ accepted", rejected: "✗ rejected", undecided: "– undecided" }[verdictOf(row)];
    const cells = element("span", "cells", "");
    const votes = votesOf(row);
    votes.slice(0, CELLS).forEach((vote, i) => {
      const cell = element("span", `vote ${vote.how}`, SIGN[vote.how]);
      cell.dataset.vote = i;
      cells.append(cell);
    });
    if (votes.length > CELLS) cells.append(element("span", "more", `+${votes.length - CELLS}`));
    item.append(
      element("span", "number", `#${row.round}`), element("span", "verdict", mark),
      element("span", "accuracy", Charts.percent(row.accuracy)), cells,
      element("span", "why", tally(row)),
    );
    return item;
  }

  function tally(row) {
    const { poisoned, clean, silent } = row.votes;
    const asked = poisoned + clean + silent;
    const votes = asked ? `${poisoned} of ${asked} poisoned${silent ? `, ${silent} silent` : ""}` : "";
    const missing = row.missing ? `${row.missing} missing` : "";
    const why = row.why === "voted down" ? "" : row.why; // which "rejected" and the votes say
    return [votes, why, missing].filter(Boolean).join(" · ");
  }

  /** The list, in these elements: rows, a line that says what is pointed at, a tip, a button. */
  class List {
    constructor({ list, line, tip, older, only }) {
      Object.assign(this, { list, line, tip, older, only });
      this.known = new Map(); // round -> [row, its element]
      this.rows = [];
      this.most = STEP;
      this.at = null; // the round and the vote that the keyboard is at
      list.addEventListener("mouseover", (event) => this.point(event.target, event));
      list.addEventListener("mouseleave", () => { tip.hidden = true; });
      list.addEventListener("keydown", (event) => this.move(event));
      older.addEventListener("click", () => { this.most += STEP; this.draw(this.rows); });
      only.addEventListener("change", () => this.draw(this.rows));
    }

    draw(rows) {
      this.rows = rows;
      const wanted = this.only.checked ? rows.filter((row) => row.accepted === false) : rows;
      const shown = wanted.slice(-this.most).reverse();
      const kept = new Map();
      for (const row of shown) {
        const before = this.known.get(row.round);
        kept.set(row.round, before?.[0] === row ? before : [row, rowOf(row)]);
      }
      this.known = kept;
      shown.forEach((row, i) => { // what stays in its place costs nothing
        const item = kept.get(row.round)[1];
        if (this.list.children[i] !== item) this.list.insertBefore(item, this.list.children[i] ?? null);
      });
      while (this.list.children.length > shown.length) this.list.lastChild.remove();
      this.older.hidden = wanted.length <= this.most;
      this.mark();
    }

    vote(round, index) {
      const row = this.known.get(round)?.[0];
      return row === undefined ? null : { row, vote: votesOf(row)[index] };
    }

    point(target, event) {
      const cell = target.closest?.("[data-vote]");
      const found = cell && this.vote(Number(cell.closest("li").dataset.round), Number(cell.dataset.vote));
      if (!found?.vote) { this.tip.hidden = true; return; }
      this.line.textContent = this.tip.textContent = said(found.vote, found.row);
      this.tip.hidden = false;
      this.tip.style.left = `${Math.min(event.clientX + 12, innerWidth - this.tip.offsetWidth - 8)}px`;
      this.tip.style.top = `${event.clientY + 16}px`;
    }

    /** Up and down between rounds, left and right between votes, home to the latest. */
    move(event) {
      const rounds = [...this.known.keys()];
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0] }[event.key];
      if (!step || !rounds.length) return;
      event.preventDefault();
      const place = this.at === null ? -1 : rounds.indexOf(this.at.round);
      const next = Math.max(0, Math.min(rounds.length - 1, place + (place < 0 && !step[0] ? 1 : step[0])));
      const most = votesOf(this.known.get(rounds[next])[0]).length - 1;
      this.at = { round: rounds[next], index: Math.max(0, Math.min(most, (this.at?.index ?? 0) + step[1])) };
      this.mark();
      const { row, vote } = this.vote(this.at.round, this.at.index);
      this.line.textContent = vote ? said(vote, row) : `round ${row.round}: ${verdictOf(row)}, no vote`;
      this.known.get(this.at.round)[1].scrollIntoView({ block: "nearest" });
    }

    mark() {
      for (const marked of this.list.querySelectorAll(".at")) marked.classList.remove("at");
      const item = this.at && this.known.get(this.at.round)?.[1];
      if (!item) return;
      item.classList.add("at");
      item.querySelector(`[data-vote="${this.at.index}"]`)?.classList.add("at");
    }
  }

  return { List, said, votesOf, verdictOf };
})();
