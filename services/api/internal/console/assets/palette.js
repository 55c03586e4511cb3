// The palette: Ctrl-K opens it, and it goes to any page, webhook or id.
export function palette() {
  const dialog = document.getElementById("palette");
  if (!dialog) return;
  const input = dialog.querySelector("input");
  const list = dialog.querySelector("ul");
  let entries = [];
  let chosen = 0;

  for (const link of document.querySelectorAll(".nav a")) {
    entries.push({ name: link.textContent.trim(), kind: dialog.dataset.page, href: link.href });
  }
  let loaded = false;
  const load = async () => {
    if (loaded) return;
    loaded = true;
    try {
      const answer = await fetch(dialog.dataset.source);
      if (answer.ok) entries = entries.concat(await answer.json());
    } catch { /* the pages are enough */ }
    show();
  };

  const matches = () => {
    const text = input.value.trim();
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = entries.filter((e) => words.every((w) => `${e.name} ${e.kind} ${e.id ?? ""}`.toLowerCase().includes(w))).slice(0, 30);
    if (text) found.push({ name: `${dialog.dataset.find} “${text}”`, kind: dialog.dataset.any, href: `${dialog.dataset.search}?q=${encodeURIComponent(text)}` });
    return found;
  };
  const show = () => {
    const found = matches();
    chosen = Math.min(chosen, Math.max(found.length - 1, 0));
    list.replaceChildren(...found.map((e, i) => {
      const item = document.createElement("li");
      item.id = `palette-${i}`;
      item.role = "option";
      item.ariaSelected = String(i === chosen);
      const kind = document.createElement("span");
      kind.textContent = e.kind;
      item.append(e.name, kind);
      item.addEventListener("click", () => { location.href = e.href; });
      return item;
    }));
    input.setAttribute("aria-activedescendant", found.length ? `palette-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  };
  const open = () => { input.value = ""; chosen = 0; dialog.showModal(); show(); load(); };

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (dialog.open) dialog.close(); else open();
    }
  });
  for (const button of document.querySelectorAll("[data-palette]")) button.addEventListener("click", open);
  input.addEventListener("input", () => { chosen = 0; show(); });
  input.addEventListener("keydown", (event) => {
    const found = matches();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(found.length, 1);
      show();
    } else if (event.key === "Enter" && found[chosen]) {
      event.preventDefault();
      location.href = found[chosen].href;
    }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
