// A browser keeps the session's cookie back when a link from another site led here. Asked from this
// page it sends it: who has signed in goes on to where the link leads.
const main = document.querySelector("[data-next]");
if (main?.dataset.next) {
  const answer = await fetch(main.dataset.session, { redirect: "error" }).catch(() => null);
  if (answer?.status === 204) location.replace(main.dataset.next);
}
