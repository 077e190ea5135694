"use strict";

/* What arrives is hostile: a value of another kind counts as missing, and texts are cut. */

const Values = (() => {
  const TEXT = 200; // characters of a text that are kept

  const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
  const upTo = (most) => (value) => (number(value) !== null && value >= 0 && value <= most ? value : null);
  const share = upTo(1), amount = upTo(1e15);
  const count = (value) => (Number.isInteger(value) ? upTo(2 ** 31 - 1)(value) : null);
  // Neither controls, nor what turns the direction of text, nor half characters.
  const text = (value) =>
    typeof value === "string" ? value.slice(0, TEXT).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ") : "";
  const list = (value) => (Array.isArray(value) ? value : []);
  const map = (value) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};

  return { number, share, amount, count, text, list, map };
})();
