// The live tail: rows come as they are made, new ones on top, changed ones in their place.
import { localTimes } from "./times.js";

const most = 200;

export function tail() {
  const body = document.querySelector("[data-tail]");
  const toggle = document.querySelector("[data-tail-switch]");
  if (!body || !toggle) return;
  let source = null;
  const sign = document.querySelector("[data-tail-sign]");
  const say = (state) => { sign.dataset.state = state; sign.textContent = sign.getAttribute(`data-text-${state}`); };
  const start = () => {
    source = new EventSource(body.dataset.tail);
    source.onopen = () => say("on");
    source.onerror = () => say("off");
    source.addEventListener("row", (event) => put(body, event.data));
  };
  const stop = () => { source?.close(); source = null; say("idle"); };
  toggle.addEventListener("click", () => {
    const on = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", String(on));
    if (on) start(); else stop();
  });
  if (toggle.getAttribute("aria-pressed") === "true") start();
  addEventListener("pagehide", stop);
}

function put(body, html) {
  const holder = document.createElement("template");
  holder.innerHTML = html.trim();
  const row = holder.content.firstElementChild;
  if (!row) return;
  row.classList.add("fresh");
  localTimes(row);
  document.querySelector("[data-tail-empty]")?.remove();
  document.querySelector("[data-tail-list]")?.removeAttribute("hidden");
  const old = document.getElementById(row.id);
  if (old) old.replaceWith(row); else body.prepend(row);
  while (body.children.length > most) body.lastElementChild.remove();
}
