// The live parts of the pages. Everything works without them but the palette, the live tail and the
// times in the reader's own zone.
import { localFields, localTimes } from "./times.js";
import { watch } from "./live.js";
import { tail } from "./tail.js";
import { palette } from "./palette.js";

localTimes(document);
localFields();
watch();
tail();
palette();

// The switch between light and dark is a cookie, so that the next page comes in the right colours.
for (const button of document.querySelectorAll("[data-theme-switch]")) {
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme === "dark" ||
      (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `postrider_theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  });
}

// Copying.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
  const label = button.querySelector("[data-label]");
  const before = label.textContent;
  label.textContent = button.dataset.done;
  setTimeout(() => { label.textContent = before; }, 1500);
});

// One checkbox for all of a list.
for (const all of document.querySelectorAll("[data-all]")) {
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
  });
}

// A form is sent once, and says that it is on its way.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.target.method !== "post") return;
  setTimeout(() => { button.disabled = true; button.setAttribute("aria-busy", "true"); });
});
addEventListener("pageshow", () => {
  for (const b of document.querySelectorAll("[aria-busy]")) { b.disabled = false; b.removeAttribute("aria-busy"); }
});

// An open box is closed by Escape, and by a click elsewhere.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const box of document.querySelectorAll("details.confirm[open]")) { box.open = false; box.querySelector("summary").focus(); }
});
document.addEventListener("click", (event) => {
  for (const box of document.querySelectorAll("details.confirm[open]")) if (!box.contains(event.target)) box.open = false;
});
