// What scripts add to pages that work without them: times in the reader's own zone, copy buttons, and "select all".
"use strict";

const units = [["second", 60], ["minute", 60], ["hour", 24], ["day", Infinity]];
const relative = new Intl.RelativeTimeFormat("en", { style: "short", numeric: "auto" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function inWords(moment) {
  let amount = (moment - Date.now()) / 1000;
  if (Math.abs(amount) < 10) return "just now";
  for (const [unit, next] of units) {
    if (Math.abs(amount) < next) return relative.format(Math.trunc(amount), unit);
    amount /= next;
  }
  return "";
}

function showTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    if (time.hasAttribute("data-relative")) {
      time.textContent = inWords(moment);
      time.title = absolute.format(moment);
    } else if (!time.hasAttribute("data-shown")) {
      time.title = time.textContent;
      time.textContent = absolute.format(moment);
      time.setAttribute("data-shown", "");
    }
  }
}

function showScripted(within) {
  for (const part of within.querySelectorAll("[data-scripted]")) part.hidden = false;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const text = "value" in source && source.value !== undefined ? source.value : source.textContent;
  const label = button.querySelector("[data-label]") || button;
  const before = label.textContent;
  try {
    const html = button.dataset.copyHtml && document.getElementById(button.dataset.copyHtml);
    if (html) {
      await navigator.clipboard.write([
        new ClipboardItem({
          "text/html": new Blob([html.innerHTML], { type: "text/html" }),
          "text/plain": new Blob([text], { type: "text/plain" }),
        }),
      ]);
    } else {
      await navigator.clipboard.writeText(text);
    }
    label.textContent = "Copied";
  } catch {
    label.textContent = "Select and copy it by hand";
  }
  setTimeout(() => { label.textContent = before; }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-all]");
  if (!all) return;
  for (const box of document.querySelectorAll(`input[type="checkbox"][name="${all.dataset.all}"]`)) box.checked = all.checked;
});

function enliven(within) {
  showTimes(within);
  showScripted(within);
}

enliven(document);
// On a narrow screen the navigation scrolls; the page that one is on should be in sight.
document.querySelector(".places a[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
document.addEventListener("htmx:load", (event) => enliven(event.detail.elt));
setInterval(() => showTimes(document), 15000);

// Whether what is shown is still kept up to date, which it is not while the service restarts or once one has logged out.
function sayWhetherLive(is, words) {
  for (const mark of document.querySelectorAll(".live-mark")) {
    mark.textContent = words;
    mark.classList.toggle("stale", !is);
  }
}
document.addEventListener("htmx:sseOpen", () => sayWhetherLive(true, "live"));
document.addEventListener("htmx:sseError", () => sayWhetherLive(false, "connecting again"));
document.addEventListener("htmx:sseClose", () => sayWhetherLive(false, "logged out: as it was then"));
