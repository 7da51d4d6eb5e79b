// The live parts of the room: messages over a WebSocket, the clock and who is here over server-sent events.
"use strict";

const element = (id) => document.getElementById(id);
const made = (tag, text = "", className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

// 1008: the gateway ended this connection because the sign-in behind it ended.
const POLICY_VIOLATION = 1008;
const RETRY = { first: 500, longest: 8000 };
let socket;
let wait = RETRY.first;

function show(state, text) {
  element("connection").className = `connection ${state}`;
  element("connection").textContent = text;
}

function connect() {
  socket = new WebSocket(`wss://${location.host}/live`);
  // The server tells the past again on every connection.
  socket.onopen = () => {
    element("messages").replaceChildren(made("li", "Nothing was said yet.", "empty"));
    wait = RETRY.first;
    show("on", "Live");
  };
  socket.onmessage = (event) => hear(JSON.parse(event.data));
  socket.onclose = (event) => {
    if (event.code === POLICY_VIOLATION) {
      show("off", "Your access ended. Load the page again to sign in.");
      return;
    }
    show("off", "Connecting again");
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, RETRY.longest);
  };
}

function hear(message) {
  const list = element("messages");
  list.querySelector(".empty")?.remove();
  const mine = message.id === list.dataset.self;
  const entry = made("li", "", mine ? "mine" : "");
  const about = made("p", "", "about");
  const time = new Date(message.at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  about.append(made("strong", mine ? "You" : message.from), made("time", time));
  entry.append(about, made("p", message.text, "text"));
  list.append(entry);
  list.scrollTop = list.scrollHeight;
}

function fill(id, items) {
  const list = element(id);
  list.replaceChildren(...(items.length ? items : [made("li", list.dataset.empty, "muted")]));
}

function person(name) {
  const item = made("li");
  const initial = made("span", name.slice(0, 1).toUpperCase(), "initial");
  initial.setAttribute("aria-hidden", "true");
  item.append(initial, name);
  return item;
}

function size(bytes) {
  return bytes < 1000 ? `${bytes} Bytes` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function file(entry) {
  const item = made("li");
  const link = made("a", entry.name);
  link.href = `/files/${encodeURIComponent(entry.name)}`;
  item.append(link, made("small", `${size(entry.bytes)}, ${entry.by}`));
  return item;
}

async function listFiles() {
  const answer = await fetch("/files");
  if (answer.ok) fill("files", (await answer.json()).files.map(file));
}

async function upload(event) {
  event.preventDefault();
  const problem = element("problem");
  problem.hidden = true;
  const answer = await fetch("/files", { method: "POST", body: new FormData(event.target) }).catch(() => null);
  if (answer?.ok) {
    event.target.reset();
    return;
  }
  const page = answer && new DOMParser().parseFromString(await answer.text(), "text/html");
  problem.textContent = page?.querySelector(".message p:not(.status)")?.textContent ?? "The file could not be sent.";
  problem.hidden = false;
}

function say(event) {
  event.preventDefault();
  const text = element("text");
  if (!text.value.trim() || socket.readyState !== WebSocket.OPEN) return;
  socket.send(text.value);
  text.value = "";
}

const events = new EventSource("/events");
events.addEventListener("clock", (event) => {
  element("clock").textContent = new Date(JSON.parse(event.data) * 1000).toLocaleTimeString();
});
events.addEventListener("participants", (event) => fill("participants", JSON.parse(event.data).map(person)));
events.addEventListener("files", listFiles);

element("say").addEventListener("submit", say);
element("upload").addEventListener("submit", upload);
connect();
