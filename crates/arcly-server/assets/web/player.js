// Plays one stream over HTTP-FLV, and starts again when it comes back.
"use strict";

const name = document.body.dataset.stream;
const url = "/" + name + ".flv" + location.search;
const video = document.getElementById("video");
const state = document.getElementById("state");
const message = document.getElementById("message");
const sound = document.getElementById("sound");
const edge = document.getElementById("edge");
const figures = document.getElementById("figures");

for (const host of document.querySelectorAll("[data-host]")) host.textContent = location.hostname;
for (const origin of document.querySelectorAll("[data-origin]")) origin.textContent = location.origin;

let player = null;
let retry = null;

function show(what, text) {
  state.dataset.state = what;
  state.textContent = what;
  message.hidden = !text;
  message.textContent = text;
}

function stop() {
  if (!player) return;
  player.destroy();
  player = null;
}

function again(text) {
  stop();
  show("waiting", text);
  clearTimeout(retry);
  retry = setTimeout(start, 2000);
}

async function start() {
  let answer;
  try {
    answer = await fetch(url, { method: "HEAD" });
  } catch {
    return again("The server does not answer. Trying again …");
  }
  if (answer.status === 404) return again(name + " is not live at the moment. It starts here as soon as it is.");
  if (answer.status === 401 || answer.status === 403) return show("locked", "This stream needs credentials: add ?token=… to the address.");
  if (!answer.ok) return again("The server cannot play this stream now (" + answer.status + "). Trying again …");
  play();
}

function play() {
  if (!window.mpegts || !mpegts.isSupported()) {
    return show("unsupported", "This browser cannot play live streams here. Use one of the addresses below.");
  }
  stop();
  player = mpegts.createPlayer(
    { type: "flv", isLive: true, url },
    { lazyLoad: false, liveSync: true, liveSyncTargetLatency: 0.8, liveSyncMaxLatency: 2, enableStashBuffer: false, autoCleanupSourceBuffer: true },
  );
  player.on(mpegts.Events.ERROR, (kind, detail) => again("Playing broke off (" + detail + "). Trying again …"));
  player.on(mpegts.Events.LOADING_COMPLETE, () => again("The stream has ended. Waiting for it to come back …"));
  player.attachMediaElement(video);
  player.load();
  show("live", "");
  const playing = player.play();
  if (playing) playing.catch(() => show("live", "Press play to begin."));
  sound.hidden = !video.muted;
}

sound.addEventListener("click", () => {
  video.muted = false;
  sound.hidden = true;
});
video.addEventListener("volumechange", () => { sound.hidden = !video.muted; });
video.addEventListener("playing", () => show("live", ""));

function behind() {
  const { buffered } = video;
  return buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : 0;
}

edge.addEventListener("click", () => {
  const { buffered } = video;
  if (buffered.length) video.currentTime = buffered.end(buffered.length - 1) - 0.3;
  video.play();
});

setInterval(() => {
  if (!player) return (figures.textContent = "");
  const size = video.videoWidth ? video.videoWidth + "×" + video.videoHeight + " · " : "";
  figures.textContent = size + behind().toFixed(1) + " s buffered";
  edge.hidden = behind() < 4;
}, 1000);

start();
