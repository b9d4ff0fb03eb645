// Lists by keyboard: j and k go from row to row, Enter opens, n turns the page, / searches, ? helps.
"use strict";

const help = document.querySelector("[data-keys]");

function links() {
  return [...document.querySelectorAll("[data-rows] tbody th a")];
}

function move(by) {
  const all = links();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  next.focus();
  next.closest("tr").scrollIntoView({ block: "nearest" });
}

const keys = {
  j: () => move(1),
  k: () => move(-1),
  n: () => document.querySelector("[data-next]")?.click(),
  "/": () => document.querySelector("[data-search]")?.focus(),
  "?": () => help?.showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog[open]");
  if (event.key === "Escape" && typing?.matches("input")) typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

document.querySelector("[data-keys-help]")?.addEventListener("click", () => help?.showModal());
