// At the hub's word, fetches this page again and changes only what differs.
const $ = (query, root = document) => root.querySelector(query);
const main = $("main"), live = $("#live"), words = $("[role=status]", live);
let events, timer, busy, again, aheadMs = main.dataset.now - Date.now();

function say(state, text = state) {
  live.dataset.state = state;
  if (words.textContent !== text) words.textContent = text;
}
const lost = () => say("lost", "reconnecting…");

function soon(delayMs) {
  if (busy) again = true;
  else timer ??= setTimeout(refresh, delayMs);
}

async function refresh() {
  timer = again = undefined;
  if (document.hidden) return;
  busy = true;
  try {
    const answer = await fetch(location);
    if (answer.redirected || answer.status === 401) return location.reload(); // to log in
    if (answer.status > 499) throw answer;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = $("main", page), focus = document.activeElement.id;
    aheadMs = (fresh.dataset.now || Date.now()) - Date.now();
    morph(main, fresh);
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
    document.title = page.title;
    $("[rel=icon]").href = $("[rel=icon]", page).href;
    tick();
    if (events.readyState === 1) say("live");
  } catch {
    lost();
    setTimeout(soon, 3e3, 0);
  }
  busy = false;
  if (again) soon(100);
}

function morph(old, fresh) {
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  // `open` is the reader's
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const wanted = [...fresh.childNodes], find = (root, { id }) => id && root.children.namedItem(id);
  for (const child of [...old.children]) if (child.id && !find(fresh, child)) child.remove();
  let at = old.firstChild;
  for (const want of wanted) {
    const have = find(old, want) || (at?.nodeName === want.nodeName && !at.id && at);
    if (have && have === at) at = at.nextSibling;
    else old.insertBefore(have || want, at);
    if (have && want.data === undefined) morph(have, want);
    else if (have && have.data !== want.data) have.data = want.data;
  }
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function tick() { // in the words of format.ts
  for (const time of main.querySelectorAll("[data-ago]")) {
    const ms = Date.now() + aheadMs - Date.parse(time.dateTime), s = Math.abs(ms) / 1e3;
    const [size, unit] = s < 60 ? [1, "s"] : s < 5400 ? [60, "min"] : s < 129600 ? [3600, "h"] : [86400, "d"];
    const far = `${Math.floor(s / size)}\u00a0${unit}`, text = s < 5 ? "just now" : ms < 0 ? "in " + far : time.dataset.ago ? "for " + far : far + " ago";
    if (s >= 0 && time.textContent !== text) time.textContent = text;
  }
}

function connect() {
  events = new EventSource("/api/v1/events");
  events.onopen = () => soon(0); // what was missed
  events.addEventListener("change", () => soon(100));
  events.onerror = () => {
    lost();
    if (events.readyState === 2) setTimeout(() => (soon(0), connect()), 3e3);
  };
}

say("connecting…");
connect();
setInterval(tick, 1e3);
// What moves by itself, like the bars of a rollout.
setInterval(() => "moves" in main.dataset && soon(0), 1e4);
document.onvisibilitychange = () => soon(0);
