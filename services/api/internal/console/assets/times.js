// Moments in the reader's own zone, with the exact one where the pointer rests.
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const short = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export function localTimes(root) {
  const now = new Date();
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    let text = clock.format(at);
    if (at.toDateString() !== now.toDateString()) {
      text = `${at.getFullYear() === now.getFullYear() ? short.format(at) : day.format(at)}, ${text}`;
    }
    element.textContent = text;
    element.title = `${element.dateTime} (${zone})`;
  }
  for (const element of root.querySelectorAll("text[data-time]")) {
    element.textContent = minute.format(new Date(element.dataset.time));
  }
}

// Fields for moments hold UTC, in which forms are sent and addresses are shared. Whoever fills one in
// sees and writes the reader's own zone.
export function localFields() {
  for (const field of document.querySelectorAll('input[type="datetime-local"]')) {
    field.value = inZone(field.defaultValue);
    for (const label of field.labels) {
      for (const node of label.childNodes) {
        if (node.nodeType === Node.TEXT_NODE) node.data = node.data.replace("(UTC)", `(${zone})`);
      }
    }
    field.form?.addEventListener("formdata", (event) => {
      if (field.value) event.formData.set(field.name, new Date(field.value).toISOString().slice(0, 16));
    });
  }
}

function inZone(utc) {
  const at = new Date(`${utc}Z`);
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}
