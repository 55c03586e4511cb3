// Parts that are kept up to date: the page is fetched again, and each part with data-live takes the
// place of the one with its id. A part that the reader works in is left alone.
import { localTimes } from "./times.js";

export function watch() {
  const first = document.querySelector("[data-live]");
  if (!first) return;
  const every = Number(first.dataset.live) * 1000;
  const round = async () => {
    if (document.visibilityState === "visible") await refresh();
    setTimeout(round, every);
  };
  setTimeout(round, every);
}

async function refresh() {
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
    if (!answer.ok) return;
  } catch {
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const young = fresh.getElementById(old.id);
    if (!young || old.contains(document.activeElement) || old.querySelector("details[open]")) continue;
    const part = document.importNode(young, true);
    localTimes(part);
    old.replaceWith(part);
  }
}
