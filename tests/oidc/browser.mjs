// Plays a person with a browser: `node browser.mjs URL [decline]` opens the page, logs in as alice, agrees to
// everything, and prints the last page.
const [start, wish] = process.argv.slice(2);
const jars = new Map();

async function visit(url, options = {}) {
  for (let hop = 0; hop < 20; hop += 1) {
    const { host } = new URL(url);
    const jar = jars.get(host) ?? new Map();
    jars.set(host, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(url, { ...options, redirect: "manual", headers: { ...options.headers, cookie } });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      jar.set(name, value);
    }
    const location = answer.headers.get("location");
    if (!location) return { url, text: await answer.text() };
    url = new URL(location, url).href;
    options = {};
  }
  throw new Error("too many redirects");
}

let page = await visit(start);
for (let step = 0; step < 10; step += 1) {
  const form = page.text.match(/<form[^>]*>[\s\S]*?<\/form>/)?.[0];
  if (!form) break;
  if (wish === "decline" && /name="prompt" value="consent"/.test(form)) {
    const abort = page.text.match(/href="([^"]*\/abort)"/)[1];
    page = await visit(new URL(abort, page.url).href);
    continue;
  }
  const fields = new URLSearchParams();
  for (const [input] of form.matchAll(/<input[^>]*>/g)) {
    const attribute = (name) => input.match(new RegExp(`${name}="([^"]*)"`))?.[1];
    if (attribute("name")) fields.set(attribute("name"), attribute("value") ?? "");
  }
  if (fields.has("login")) fields.set("login", "alice");
  if (fields.has("password")) fields.set("password", "any");
  // The button that agrees to a code of a device.
  if (/name="confirm"|value="yes"/.test(form)) fields.set("confirm", "yes");
  const action = form.match(/action="([^"]*)"/)?.[1] ?? page.url;
  page = await visit(new URL(action, page.url).href, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: fields.toString(),
  });
}
console.log(page.text.trim());
