"use strict";

/* Rounds, the latest first, each with a row of validators: what they said, and by how much. */

const Votes = (() => {
  const STEP = 40; // rounds shown at once
  const CELLS = 200; // votes shown of a round; the rest is a number
  const HOLD = 10000; // milliseconds that the list stands still for whoever is at it
  const SIGN = { clean: "✓", poisoned: "✗", silent: "·" };
  const KEPT = ["group kept", "✓"], OUT = ["group out", "✗"];

  const figure = (value) => (value === null ? "?" : value.toPrecision(3));

  /** A vote in words. */
  function said(vote, row) {
    if (vote.members) return Groups.said(vote, row.round);
    const who = vote.name === ":server" ? "the server" : vote.name || "a validator";
    if (vote.how === "silent") return `round ${row.round}, ${who}: silent`;
    const bytes = vote.size ? `, fetched ${Charts.short(vote.size)}B` : "";
    if (vote.score === null) return `round ${row.round}, ${who}: ${vote.how}`;
    const against = `score ${figure(vote.score)} ${vote.score > vote.threshold ? "above" : "within"} threshold ${figure(vote.threshold)}`;
    return `round ${row.round}, ${who}: ${vote.how}, ${against}${bytes}`;
  }

  /** The votes of a round; without a name those of which only their number is known. */
  function votesOf(row) {
    const of = (how) => {
      const known = row.voters.filter((vote) => vote.how === how).length;
      const length = Math.max(0, Math.min(row.votes[how], Board.LIMITS.voters) - known);
      return Array.from({ length }, () => ({ name: "", how, score: null, threshold: null, bytes: null }));
    };
    const nameless = row.voters.length ? of("silent") : [...of("poisoned"), ...of("clean"), ...of("silent")];
    return [...row.voters, ...nameless];
  }

  /** What the arrow keys go through: the votes of a round, then its groups. */
  const cellsOf = (row) => [...votesOf(row), ...(row.groups?.list ?? [])];

  const verdictOf = (row) => (row.accepted === null ? "pending" : row.accepted ? "accepted" : "rejected");

  function element(tag, className, content) {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = content;
    return made;
  }

  const MARK = { accepted: "✓ accepted", rejected: "✗ rejected", pending: "– pending" };

  function rowOf(row) {
    const item = element("li", verdictOf(row), "");
    item.id = `round-${row.round}`;
    item.dataset.round = row.round;
    item.setAttribute("role", "option");
    const votes = votesOf(row), groups = row.groups?.list ?? [];
    const voted = line("cells", votes.map(({ how }) => [how, SIGN[how]]), 0, votes.length);
    const judged = line("cells", groups.map(({ why }) => (why ? OUT : KEPT)), votes.length, groups.length && row.groups.count);
    const below = votes.length > 0 && groups.length > 0;
    judged.classList.toggle("below", below);
    item.append(
      element("span", "number", `#${row.round}`), element("span", "verdict", MARK[verdictOf(row)]),
      element("span", "accuracy", reached(row)), votes.length || !groups.length ? voted : judged,
      element("span", "why", tally(row)),
    );
    if (below) item.append(judged);
    return item;
  }

  /** A line of cells, [class, sign] each: the first of so many; the arrow keys count from a number on. */
  function line(className, cells, from, total) {
    const made = element("span", className, "");
    made.setAttribute("aria-hidden", "true"); // their numbers are read out, and each by the arrow keys
    cells.slice(0, CELLS).forEach(([kind, sign], i) => {
      const cell = element("span", `vote ${kind}`, sign);
      cell.dataset.vote = from + i;
      made.append(cell);
    });
    if (total > CELLS) made.append(element("span", "more", `+${total - CELLS}`));
    return made;
  }

  /** Accuracy, or the first metric where nobody measured that. */
  function reached(row) {
    const [first] = row.accuracy === null ? row.metrics : [];
    return first ? Charts.measure(...first) : Charts.percent(row.accuracy);
  }

  /** What there is to say of a round besides its verdict. */
  function tally(row) {
    const { poisoned, clean, silent } = row.votes;
    const asked = poisoned + clean + silent;
    return [
      row.judged !== null && row.judged !== row.round ? `about round ${row.judged}` : "", // with piggy-back
      asked ? `${poisoned} poisoned, ${clean} clean, ${silent} silent` : "",
      Groups.tally(row.groups),
      row.pooled === null ? "" : `pooled score ${figure(row.pooled.score)}, threshold ${figure(row.pooled.threshold)}`,
      row.why === "voted down" ? "" : row.why, // which "rejected" and the votes say
      row.attempt > 1 ? `attempt ${row.attempt}` : "",
      row.declined ? `${row.declined} sat out` : "",
      row.missing ? `${row.missing} missing` : "",
      row.dropped ? `${row.dropped} dropped by the broker` : "",
    ].filter(Boolean).join(" · ");
  }

  /** The list, in these elements: rows, a line that says what is pointed at, a tip, buttons, newer ones. */
  class List {
    constructor({ list, line, tip, older, only, newer }) {
      Object.assign(this, { list, line, tip, older, only, newer });
      this.forget("");
      list.addEventListener("mouseover", (event) => this.point(event));
      list.addEventListener("click", (event) => this.point(event)); // a second tap on the same vote
      list.addEventListener("mousemove", () => this.hold());
      list.addEventListener("mouseleave", () => { tip.hide(); this.release(); });
      list.addEventListener("keydown", (event) => this.move(event));
      list.addEventListener("blur", () => this.release());
      older.addEventListener("click", () => { this.most += STEP; this.refresh(); });
      only.addEventListener("change", () => this.refresh());
    }

    /** Begin with the rounds of a run. */
    forget(run) {
      this.run = run;
      this.rows = [];
      this.known = new Map(); // round -> [row, its element]
      this.most = STEP;
      this.at = null; // the round and the vote that the keyboard is at
      this.held = null; // the timer that ends its standing still
    }

    /** Stand still for a while: at ten rounds a second nobody could point at anything. */
    hold() {
      clearTimeout(this.held);
      this.held = setTimeout(() => this.release(), HOLD);
    }

    release() {
      if (this.held === null) return;
      clearTimeout(this.held);
      this.refresh();
    }

    refresh() {
      this.held = null;
      this.draw(this.rows, this.run);
    }

    draw(rows, run) {
      if (run !== this.run) {
        clearTimeout(this.held);
        this.forget(run);
      }
      this.rows = rows;
      const wanted = this.only.checked ? rows.filter((row) => row.accepted === false) : rows;
      const latest = this.known.keys().next().value ?? 0;
      const fresh = this.held === null ? 0 : wanted.filter((row) => row.round > latest).length;
      this.newer.textContent = fresh ? `${fresh} newer; shown when you leave the list` : "";
      // What is gone from the run is gone from the list, whoever looks at it.
      if (this.held !== null && (wanted.at(-1)?.round ?? 0) >= latest) return;
      this.show(wanted.slice(-this.most).reverse());
      this.older.hidden = wanted.length <= this.most;
    }

    show(shown) {
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
      this.mark();
    }

    vote(round, index) {
      const row = this.known.get(round)?.[0];
      return row === undefined ? null : { row, vote: cellsOf(row)[index] };
    }

    point(event) {
      const cell = event.target.closest?.("[data-vote]");
      const found = cell && this.vote(Number(cell.closest("li").dataset.round), Number(cell.dataset.vote));
      if (!found?.vote) { this.tip.hide(); return; }
      this.line.textContent = said(found.vote, found.row);
      this.tip.show(this.line.textContent, event);
    }

    /** Up and down between rounds, left and right between votes, home to the latest. */
    move(event) {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      if (event.key === "Home") this.refresh();
      const rounds = [...this.known.keys()];
      if (!rounds.length) return;
      const place = this.at === null ? -1 : rounds.indexOf(this.at.round);
      const next = Math.max(0, Math.min(rounds.length - 1, place + (place < 0 && !step[0] ? 1 : step[0])));
      const most = cellsOf(this.known.get(rounds[next])[0]).length - 1;
      this.at = { round: rounds[next], index: Math.max(0, Math.min(most, (this.at?.index ?? 0) + step[1])) };
      this.hold();
      this.mark();
      const { row, vote } = this.vote(this.at.round, this.at.index);
      this.line.textContent = vote ? said(vote, row) : `round ${row.round}: ${verdictOf(row)}, no vote`;
      this.known.get(this.at.round)[1].scrollIntoView({ block: "nearest" });
    }

    mark() {
      for (const marked of this.list.querySelectorAll(".at")) marked.classList.remove("at");
      const item = this.at && this.known.get(this.at.round)?.[1];
      for (const row of this.list.querySelectorAll("[aria-selected]")) row.removeAttribute("aria-selected");
      if (!item) { this.list.removeAttribute("aria-activedescendant"); return; }
      this.list.setAttribute("aria-activedescendant", item.id);
      item.setAttribute("aria-selected", "true");
      item.classList.add("at");
      item.querySelector(`[data-vote="${this.at.index}"]`)?.classList.add("at");
    }
  }

  return { List, votesOf };
})();
