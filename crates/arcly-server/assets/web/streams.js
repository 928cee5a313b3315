// Keeps the list of streams up to date.
"use strict";

for (const host of document.querySelectorAll("[data-host]")) {
  host.textContent = location.hostname;
}

const list = document.getElementById("streams");
const count = document.getElementById("count");
const empty = document.getElementById("empty");

function item(stream) {
  const link = document.createElement("a");
  link.href = "/" + stream.path;
  const name = document.createElement("strong");
  name.textContent = stream.path;
  const badge = document.createElement("span");
  badge.className = "badge";
  badge.dataset.state = stream.state;
  badge.textContent = stream.state;
  const about = document.createElement("span");
  about.className = "quiet";
  about.textContent = " " + stream.about;
  link.append(name, badge, about);
  const entry = document.createElement("li");
  entry.append(link);
  return entry;
}

let shown = "";

async function refresh() {
  try {
    const answer = await fetch("/", { headers: { accept: "application/json" } });
    if (!answer.ok) return;
    const streams = (await answer.json()).items;
    const next = JSON.stringify(streams);
    // The list is left alone while nothing changes, so that focus and selection stay where they are.
    if (next === shown) return;
    shown = next;
    list.replaceChildren(...streams.map(item));
    count.textContent = streams.length === 1 ? "1 stream" : streams.length + " streams";
    empty.hidden = streams.length > 0;
  } catch {
    count.textContent = "the server does not answer";
    shown = "";
  }
}

setInterval(() => document.hidden || refresh(), 2000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
