// Walks through the console and the portal in Chromium as a person would, over a running Postrider, and
// asks axe-core about every page. It ends with an error at the first thing that is not as it should be.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { chromium } = require("playwright-core");

const base = process.env.CONSOLE_URL;
const key = process.env.CONSOLE_KEY;
const pictures = process.env.CONSOLE_SCREENSHOTS;
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const patience = 30_000;

// receiver answers with the status that it is told, and tells what came.
function receiver() {
  const got = [];
  const server = http.createServer((req, res) => {
    let body = "";
    req.on("data", (part) => { body += part; });
    req.on("end", () => {
      got.push({ headers: req.headers, body });
      res.writeHead(server.status, { "Content-Type": "application/json" });
      res.end(JSON.stringify({ received: server.status === 200 }));
    });
  });
  server.status = 200;
  server.got = got;
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

let account;

// publish is what a producer does.
async function publish(type, data, headers = {}) {
  const answer = await fetch(`${base}/v1/events`, {
    method: "POST",
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json", ...headers },
    body: JSON.stringify({ account_id: account, type, data }),
  });
  assert.ok(answer.ok, `publish: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

const seen = new Set();
const problems = []; // all of them are told at the end

// look asks axe-core about the page, and keeps a picture of it in each dress.
async function look(page, name) {
  seen.add(name);
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    await page.evaluate(axe);
    const result = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
    for (const v of result.violations) problems.push(`${name} (${theme}): ${v.id}: ${v.nodes.map((n) => `${n.html.slice(0, 160)} ${n.failureSummary}`).join("\n  ")}`);
    if (pictures) await page.screenshot({ path: path.join(pictures, `${name}-${theme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  const wide = page.viewportSize();
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (overflow > 0) problems.push(`${name}: a phone's screen is ${overflow} pixels too narrow`);
  if (pictures) await page.screenshot({ path: path.join(pictures, `${name}-phone.png`), fullPage: true });
  await page.setViewportSize(wide);
}

async function main() {
  const hook = await receiver();
  const browser = await chromium.launchPersistentContext(process.env.CONSOLE_PROFILE, {
    executablePath: process.env.CONSOLE_BROWSER, headless: true, viewport: { width: 1360, height: 900 }, timezoneId: "Europe/Berlin",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
  });
  browser.setDefaultTimeout(patience);
  const page = browser.pages()[0] ?? await browser.newPage();
  const complaints = [];
  page.on("console", (m) => { if (m.type() === "error" && !/status of (400|404|422|401)/.test(m.text())) complaints.push(m.text()); });
  page.on("pageerror", (e) => complaints.push(String(e)));
  page.on("request", (r) => { if (!r.url().startsWith(base)) complaints.push(`asked another host: ${r.url()}`); });
  const main = page.locator("main");
  const at = (rest) => `${base}/console/accounts/${account}/${rest}`;

  // Signing in.
  await page.goto(base);
  await page.getByLabel("Key").fill("prk_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await look(page, "sign-in");
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await look(page, "accounts");
  await page.getByLabel("Name").fill("Northern Lights Records");
  await page.getByLabel("Subdomain").fill("northernlights");
  await page.getByRole("button", { name: "Create" }).click();
  await page.waitForURL(/\/accounts\/acc_/);
  account = new URL(page.url()).pathname.split("/")[3];
  await look(page, "overview-empty");

  // The catalogue, as its producer imports it.
  const catalogue = JSON.parse(fs.readFileSync(path.join(__dirname, "../../../catalogues/jewelmusic.json"), "utf8"));
  const imported = await fetch(`${base}/v1/event-types:import`, {
    method: "POST", headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" }, body: JSON.stringify({ ...catalogue, account_id: account }),
  });
  assert.ok(imported.ok, await imported.text());

  // A JewelMusic webhook by form, without code.
  await page.getByRole("link", { name: "Create a webhook" }).click();
  await look(page, "webhook-kinds");
  await page.locator(`a.pick[href$="profile=jewelmusic"]`).click();
  await page.getByLabel("Name", { exact: true }).fill("Label backend");
  await page.getByLabel("URL", { exact: true }).fill("ftp://example.com");
  await page.getByRole("button", { name: "Save" }).click();
  await main.getByRole("alert").waitFor();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Label backend", "what was written stays");
  await look(page, "webhook-form");
  await page.getByLabel("URL", { exact: true }).fill(`http://127.0.0.1:${hook.address().port}/hook`);
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The webhook is there.").waitFor();
  const webhook = new URL(page.url()).pathname.split("/").pop();
  await look(page, "webhook-new");

  // Other kinds: a name and a URL; an event, an endpoint and GET or POST.
  await page.goto(at("webhooks/new?profile=labelst"));
  await page.getByLabel("Name", { exact: true }).fill("Release diary");
  await page.getByLabel("URL", { exact: true }).fill("https://diary.example.com/hook");
  await look(page, "webhook-form-labelst");
  await page.goto(at("webhooks/new?profile=audata"));
  await page.getByLabel("Event", { exact: true }).fill("Listener.updated");
  await page.getByLabel("Endpoint").fill("https://promo.example.com/listener");
  await page.getByLabel("HTTPS GET, data as URL parameters").check();
  await look(page, "webhook-form-audata");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The webhook is there.").waitFor();
  await main.getByText("GET", { exact: true }).waitFor();

  // A test, with its result on the page.
  await page.goto(at(`webhooks/${webhook}`));
  await page.getByRole("button", { name: "Send a test" }).first().click();
  await page.getByText("It was taken").waitFor();
  await look(page, "webhook-test");
  await page.goto(at("webhooks"));
  await look(page, "webhooks");

  // Publish, and watch it arrive in the tail.
  await page.goto(at("deliveries"));
  await look(page, "deliveries-empty");
  await page.locator("[data-tail-sign][data-state=on]").waitFor();
  for (const [i, type] of ["release.live", "track.processed", "royalty.reported"].entries()) {
    await publish(type, { id: `rel_${i}`, title: "Aurora", artist: "Nordlys <b>Trio</b>" }, { "Idempotency-Key": `walk-${i}` });
  }
  await page.locator("tr", { hasText: "royalty.reported" }).getByText("Delivered").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 3);
  await look(page, "deliveries");

  // Filters are in the reader's zone; the address, which can be shared, holds UTC.
  const from = page.getByLabel("From (Europe/Berlin)");
  await from.fill("2026-01-01T01:00");
  await page.getByLabel("Last attempt").selectOption({ label: "Succeeded" });
  await page.locator(".filters input[name=status]").fill("200");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.waitForURL(/outcome=succeeded&status=200&from=2026-01-01T00%3A00&/);
  assert.equal(await from.inputValue(), "2026-01-01T01:00");
  assert.equal(await page.locator("tbody tr").count(), 3);
  await page.goto(at("deliveries?status=503"));
  await page.getByText("No delivery fits").waitFor();
  await page.goto(at("deliveries"));

  // The flight recorder.
  await page.locator("tr", { hasText: "release.live" }).locator("td").last().getByRole("link").click();
  await page.getByRole("heading", { name: "What happened" }).waitFor();
  await main.locator(".timeline").getByText("Attempt 1").waitFor();
  const event = new URL(page.url()).pathname.split("/").pop();
  assert.equal(await page.locator("pre", { hasText: "Aurora" }).count(), 0, "the payload is masked at first");
  await page.getByRole("link", { name: "Show what is masked" }).click();
  await page.locator("pre", { hasText: "Nordlys <b>Trio</b>" }).first().waitFor();
  await page.locator(".timeline details summary", { hasText: "Request and response" }).first().click();
  await look(page, "event");
  await page.goto(at("events"));
  await look(page, "events");

  // One box that takes any id.
  for (const id of [event, "walk-0"]) {
    await page.goto(at(""));
    await page.getByLabel("Find any id").fill(id);
    await page.getByLabel("Find any id").press("Enter");
    await page.waitForURL(new RegExp(`/events/${event}`));
  }
  await page.goto(at("search?q=nothing-has-this"));
  await look(page, "search-none");

  // The charts' numbers move.
  await page.goto(at(""));
  const number = async () => Number((await page.locator("#stat-attempts").textContent()).replace(/\D/g, ""));
  const before = await number();
  await publish("release.live", { id: "rel_moves" });
  await page.waitForFunction((n) => Number(document.querySelector("#stat-attempts").textContent.replace(/\D/g, "")) > n, before);

  // A webhook with waits of its own, whose receiver fails: its page shows the breaker open by itself.
  const flaky = await receiver();
  flaky.status = 500;
  await page.goto(at("webhooks/new?profile=standard"));
  await page.getByLabel("Name", { exact: true }).fill("Flaky partner");
  await page.getByLabel("URL", { exact: true }).fill(`http://127.0.0.1:${flaky.address().port}/hook`);
  await page.getByLabel("All events").uncheck();
  await page.getByLabel("Patterns").fill("flaky.*");
  await page.locator("details.more summary").click();
  await page.getByLabel("Tried again after").fill("10ms, soon");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText('"soon" is no time such as').waitFor();
  await page.getByLabel("Tried again after").fill("10ms, 30h");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("no. 2: must be 0 s to 24 h").waitFor();
  assert.equal(await page.getByLabel("Tried again after").getAttribute("aria-invalid"), "true");
  await look(page, "webhook-form-schedule");
  await page.getByLabel("Tried again after").fill(Array(12).fill("10ms").join(", "));
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The webhook is there.").waitFor();
  const broken = new URL(page.url()).pathname.split("/").pop();
  const health = page.locator("#webhook-health");
  await health.getByText("Breaker closed").waitFor();
  await health.getByText("0 of 8").waitFor();
  await publish("flaky.event", { n: 1 });
  await health.getByText("Breaker open").waitFor();
  await health.getByText("so none passes since").waitFor();
  await look(page, "webhook-broken");
  flaky.status = 200;

  // One fails until it is dead; it is found in the inbox, counted, and redriven.
  hook.status = 503;
  await publish("release.rejected", { id: "rel_9", reason: "artwork" });
  await page.goto(at("deliveries?type=release.rejected"));
  await page.locator("tr", { hasText: "release.rejected" }).getByText("Dead", { exact: true }).waitFor();
  await page.locator("tr", { hasText: "release.rejected" }).locator("td:nth-child(7) a").click();
  await page.getByText("Attempt 5").waitFor();
  await look(page, "delivery-dead");
  await page.getByRole("link", { name: "Compare the last two" }).click();
  await page.getByRole("heading", { name: "Two attempts" }).waitFor();
  await look(page, "compare");
  await page.goto(at(`webhooks/${webhook}`));
  await look(page, "webhook");
  await page.goto(at("dead-letters"));
  await page.locator("tr", { hasText: "release.rejected" }).getByRole("link", { name: "Label backend" }).click();
  await page.getByLabel(/^Select dlv_/).check();
  const letters = page.locator("form", { has: page.getByLabel(/^Select dlv_/) });
  await letters.getByRole("button", { name: "Count only" }).click();
  await page.getByText("1 selected, 1 deliveries would be made.").waitFor();
  await look(page, "dead-letters");
  hook.status = 200;
  await page.getByLabel(/^Select dlv_/).check();
  await letters.getByRole("button", { name: "Redrive", exact: true }).click();
  await page.getByText("The redrive has begun.").waitFor();
  await page.locator("#replay-live .badge", { hasText: "Succeeded" }).waitFor();
  await look(page, "replay");
  await page.goto(at("deliveries?type=release.rejected"));
  await page.locator("tr", { hasText: "release.rejected" }).getByText("Delivered").waitFor();

  // A replay: its preview first.
  await page.goto(at(`replays/new?event=${event}`));
  await page.getByRole("button", { name: "Preview" }).click();
  await page.locator("#preview").waitFor();
  await look(page, "replay-form");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.locator("#replay-live .badge", { hasText: "Succeeded" }).waitFor();
  await page.goto(at("replays"));
  await look(page, "replays");

  // The catalogue.
  await page.goto(at("event-types"));
  await look(page, "event-types");
  await page.getByRole("link", { name: /release\.live/ }).click();
  await page.getByRole("link", { name: "Change" }).click();
  await page.getByLabel("Example").fill('{"id":"rel_1","title":"Aurora"}');
  await page.getByLabel("Schema", { exact: true }).fill('{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}');
  await look(page, "event-type-form");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await look(page, "event-type");

  // Explain a match, and verify a signature that arrived.
  await page.goto(at("explain"));
  await page.getByLabel("Event type").fill("release.live");
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByText("1 of 3 webhooks would get it").waitFor();
  await look(page, "explain");
  const arrived = hook.got.at(-1);
  await page.goto(at("verify"));
  await page.getByLabel("Secret of").selectOption({ label: "Label backend" });
  await page.getByLabel("Headers").fill(Object.entries(arrived.headers).map(([k, v]) => `${k}: ${v}`).join("\n"));
  await page.getByLabel("Body").fill(arrived.body);
  await page.getByRole("button", { name: "Verify" }).click();
  await page.getByText("The signature is right.").waitFor();
  await look(page, "verify");
  await page.getByLabel("Body").fill(`${arrived.body} `);
  await page.getByRole("button", { name: "Verify" }).click();
  await page.getByText("The signature is not right.").waitFor();

  // Pause and resume; rotate.
  await page.goto(at(`webhooks/${webhook}`));
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused. No attempt starts").waitFor();
  await publish("release.created", { id: "held" });
  await page.goto(at("deliveries?state=held"));
  await page.locator("tr", { hasText: "release.created" }).locator("td").last().getByRole("link").click();

  // A payload is removed for good, once nothing of it is on its way.
  await page.locator("summary", { hasText: "Remove payload" }).click();
  await page.getByRole("button", { name: "Remove for good" }).click();
  await main.getByRole("alert").getByText("has not ended").waitFor();
  await look(page, "event-expunge-refused");
  await page.locator("summary", { hasText: "Cancel" }).click();
  await page.getByRole("button", { name: "Cancel deliveries" }).click();
  await page.getByText("1 deliveries were cancelled.").waitFor();
  await main.locator(".badge", { hasText: "Cancelled" }).first().waitFor();
  await page.locator("summary", { hasText: "Remove payload" }).click();
  if (pictures) await page.screenshot({ path: path.join(pictures, "event-expunge-light.png") });
  await page.getByRole("button", { name: "Remove for good" }).click();
  await page.getByText("The payload is removed for good").waitFor();
  await page.getByText("The payload was removed on request").waitFor();
  assert.equal(await page.getByText("Show what is masked").count(), 0, "there is nothing left to show");
  await look(page, "event-expunged");
  await page.goto(at(`webhooks/${webhook}`));
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText("Resumed. What was held is on its way.").waitFor();
  await page.locator("summary", { hasText: "Rotate" }).click();
  await page.getByRole("button", { name: "Make a new secret" }).click();
  await page.getByText("The new secret signs from now on.").waitFor();

  // Keys, the audit log, settings.
  await page.goto(at("keys"));
  await page.getByLabel("Name").fill("Producer");
  await page.getByLabel("publish publish events").check();
  await page.getByRole("button", { name: "Create key" }).click();
  await page.locator("#flash-secret", { hasText: "prk_" }).waitFor();
  await look(page, "keys");
  await page.getByRole("link", { name: "Change Producer" }).click();
  assert.ok(await page.getByLabel("publish publish events").isChecked());
  await page.getByLabel("publish publish events").uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("at least one is required").waitFor();
  await look(page, "key-form");
  await page.getByLabel("read look at everything").check();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The key is saved").waitFor();
  const producer = page.locator("tr", { hasText: "Producer" });
  await producer.locator(".badge", { hasText: "read" }).waitFor();
  assert.equal(await producer.locator(".badge", { hasText: "publish" }).count(), 0);
  await page.goto(at("settings"));
  await page.locator("#log-live").getByText("SQLite").waitFor();
  await page.locator("#log-live .badge", { hasText: "Up to date" }).waitFor();
  await page.getByLabel("Time zone").fill("Europe/Oslo");
  await page.getByLabel("Days that the delivery log keeps").fill("400");
  await page.getByRole("button", { name: "Save" }).click();
  await main.getByText("no longer than the deployment keeps the log").first().waitFor();
  assert.equal(await page.getByLabel("Time zone").inputValue(), "Europe/Oslo", "what was written stays");
  await page.getByLabel("Days that the delivery log keeps").fill("7");
  await page.getByLabel("Attempts at once over all webhooks").fill("500");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await page.locator("#log-live").getByText("7 d").waitFor();
  assert.equal(await page.getByLabel("Attempts at once over all webhooks").inputValue(), "500");
  await look(page, "settings");
  await page.goto(at("audit"));
  for (const what of ["Webhook created", "Webhook paused", "Secret rotated", "Key created", "Key changed", "Payload removed", "Account changed", "Dead letters redriven"]) {
    await page.getByText(what).first().waitFor();
  }
  await look(page, "audit");

  // The receiver that failed has mended, and a probe has found out.
  await page.goto(at(`webhooks/${broken}`));
  await health.getByText("Breaker closed").waitFor();
  assert.ok(flaky.got.length > 10);

  // The keyboard alone: the palette goes anywhere.
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox").fill("label back");
  await page.getByRole("option", { name: /Label backend/ }).waitFor();
  if (pictures) await page.screenshot({ path: path.join(pictures, "palette-light.png") });
  await page.keyboard.press("Enter");
  await page.waitForURL(new RegExp(`/webhooks/${webhook}`));
  await page.getByRole("button", { name: "Switch between light and dark" }).click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark", "it stays");
  await page.getByRole("button", { name: "Switch between light and dark" }).click();
  const shown = await page.locator("main time").first().evaluate((e) => [e.textContent, e.title]);
  assert.match(shown[1], /^\d{4}-\d\d-\d\dT.*Z \(Europe\/Berlin\)$/, "the exact moment, and the reader's zone");

  await browser.clearCookies({ name: "postrider_theme" });
  await page.goto(at(""));
  await page.locator(".chart").first().waitFor();
  await page.locator("#stat-log").getByText("Up to date").waitFor();
  await look(page, "overview");

  // The portal: a link, and no other account.
  await page.goto(at("keys"));
  await page.getByRole("button", { name: "Create link" }).click();
  const link = (await page.locator("#portal-link-value").textContent()).trim();
  const guest = await (await chromium.launch({
    executablePath: process.env.CONSOLE_BROWSER, headless: true, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
  })).newPage({ viewport: { width: 1360, height: 900 } });
  guest.setDefaultTimeout(patience);
  await guest.goto(link);
  await guest.waitForURL(`${base}/portal/`);
  await guest.getByText("Acme Webhooks").first().waitFor();
  await look(guest, "portal");
  await guest.getByRole("link", { name: "Webhooks", exact: true }).click();
  await guest.getByRole("link", { name: "Label backend" }).click();
  await guest.getByRole("button", { name: "Send a test" }).first().click();
  await guest.getByText("It was taken").waitFor();
  await look(guest, "portal-webhook");
  for (const path of ["portal/keys", "portal/settings", "portal/audit", `console/accounts/${account}/`]) {
    await guest.goto(`${base}/${path}`);
    assert.equal(await guest.getByText("Label backend").count(), 0, path);
  }
  await guest.context().browser().close();

  // Deleting, and leaving.
  await page.goto(at(`webhooks/${webhook}`));
  await page.locator("summary", { hasText: "Delete" }).click();
  await page.getByRole("button", { name: "Delete webhook" }).click();
  await page.getByText("waiting deliveries were cancelled").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Key").waitFor();
  await page.goto(at("webhooks"));
  await page.getByLabel("Key").waitFor();

  assert.deepEqual(complaints, []);
  assert.equal(problems.length, 0, problems.join("\n"));
  console.log(`${seen.size} pages, in light and dark and on a phone: axe-core has nothing to say`);
  await browser.close();
  hook.close();
  flaky.close();
}

main().then(() => process.exit(0), (e) => {
  console.error(problems.join("\n"));
  console.error(e);
  process.exit(1);
});
