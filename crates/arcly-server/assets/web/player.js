// Plays one stream: over LL-HLS, or over HTTP-FLV where that does not work or is asked for. Starts again when it comes back.
"use strict";

const page = document.body.dataset;
const name = page.stream;
const video = document.getElementById("video");
const state = document.getElementById("state");
const message = document.getElementById("message");
const sound = document.getElementById("sound");
const edge = document.getElementById("edge");
const figures = document.getElementById("figures");
const choice = document.getElementById("player");
const archive = document.getElementById("archive");
const recordings = document.getElementById("recordings");

for (const host of document.querySelectorAll("[data-host]")) host.textContent = location.hostname;
for (const origin of document.querySelectorAll("[data-origin]")) origin.textContent = location.origin;

// What the page itself understands of its query is not for the server.
const query = new URLSearchParams(location.search);
const wanted = query.get("player");
query.delete("player");
const search = query.size ? "?" + query : "";
const flvUrl = "/" + name + ".flv" + search;
const hlsUrl = "/" + name + "/index.m3u8" + search;

// A way to play: what the browser needs for it, and how it goes.
// `start` returns { stop, latency, toLive }.
const ways = {
  hls: { title: "LL-HLS", script: page.hls, works: () => window.Hls && Hls.isSupported(), start: startHls },
  native: { title: "HLS (browser)", works: () => page.hls && !window.MediaSource && video.canPlayType("application/vnd.apple.mpegurl"), start: startNative },
  flv: { title: "HTTP-FLV", script: page.mpegts, works: () => window.mpegts && mpegts.isSupported(), start: startFlv },
};
const order = ["hls", "native", "flv"].filter((way) => way !== "hls" || page.hls);
const failed = new Set();
let playing = null;
let retry = null;

function show(what, text) {
  state.dataset.state = what;
  state.textContent = what;
  message.hidden = !text;
  message.textContent = text;
}

function stop() {
  if (playing) playing.stop();
  playing = null;
}

function again(text) {
  stop();
  show("waiting", text);
  clearTimeout(retry);
  retry = setTimeout(start, 2000);
}

function load(script) {
  if (!script) return Promise.resolve();
  const there = document.querySelector('script[src="' + script + '"]');
  if (there) return there.loaded;
  const element = document.createElement("script");
  element.src = script;
  element.loaded = new Promise((resolve) => { element.onload = element.onerror = () => resolve(); });
  document.head.append(element);
  return element.loaded;
}

async function start() {
  let answer;
  try {
    answer = await fetch(flvUrl, { method: "HEAD" });
  } catch {
    return again("The server does not answer. Trying again …");
  }
  if (answer.status === 404) return again(name + " is not live at the moment. It starts here as soon as it is.");
  if (answer.status === 401 || answer.status === 403) return show("locked", "This stream needs credentials: add ?token=… to the address.");
  if (!answer.ok) return again("The server cannot play this stream now (" + answer.status + "). Trying again …");
  play();
}

async function play() {
  const first = order.includes(choice.value) ? [choice.value] : [];
  for (const way of [...first, ...order]) {
    if (failed.has(way)) continue;
    await load(ways[way].script);
    if (!ways[way].works()) continue;
    stop();
    choice.value = way;
    playing = ways[way].start();
    show("live", "");
    const begun = video.play();
    if (begun) begun.catch(() => show("live", "Press play to begin."));
    sound.hidden = !video.muted;
    return;
  }
  failed.clear();
  show("unsupported", "This browser cannot play live streams here. Use one of the addresses below.");
}

// Another way is tried when this one cannot play the stream at all, as with codecs that it does not know.
function giveUp(way, detail) {
  stop();
  failed.add(way);
  if (order.some((other) => !failed.has(other))) return play();
  failed.clear();
  again("Playing broke off (" + detail + "). Trying again …");
}

function startHls() {
  const hls = new Hls({ enableWorker: false, lowLatencyMode: true, backBufferLength: 30 });
  // The library catches up only with more than a second in the buffer, which is more than the latency that is wanted.
  let jumped = 0;
  const pace = setInterval(() => {
    const late = hls.latency - (hls.targetLatency ?? Infinity);
    // Much too late, and the rest is there already: once in a while that is jumped over.
    if (late > 0.7 && behind() > late + 0.3 && performance.now() - jumped > 10000) {
      jumped = performance.now();
      video.currentTime += late;
    }
    const catchUp = behind() > 0.35 && late > (video.playbackRate > 1 ? 0.05 : 0.2);
    video.playbackRate = catchUp ? 1.1 : 1;
  }, 200);
  let recoveries = 0;
  hls.on(Hls.Events.ERROR, (_, error) => {
    if (!error.fatal) return;
    if (error.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries < 2 && error.details !== Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
      recoveries += 1;
      return hls.recoverMediaError();
    }
    if (error.type === Hls.ErrorTypes.NETWORK_ERROR) return again("Playing broke off (" + error.details + "). Trying again …");
    giveUp("hls", error.details);
  });
  hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
    if (!details.live) again("The stream has ended. Waiting for it to come back …");
  });
  hls.loadSource(hlsUrl);
  hls.attachMedia(video);
  return {
    stop: () => {
      clearInterval(pace);
      video.playbackRate = 1;
      hls.destroy();
    },
    latency: () => hls.latency,
    toLive: () => { if (hls.liveSyncPosition) video.currentTime = hls.liveSyncPosition; },
  };
}

function startNative() {
  video.src = hlsUrl;
  const ended = () => again("The stream has ended. Waiting for it to come back …");
  const broken = () => giveUp("native", "the browser cannot play it");
  video.addEventListener("ended", ended);
  video.addEventListener("error", broken);
  return {
    stop: () => {
      video.removeEventListener("ended", ended);
      video.removeEventListener("error", broken);
      video.removeAttribute("src");
      video.load();
    },
    latency: () => (video.seekable.length ? video.seekable.end(0) - video.currentTime : 0),
    toLive: () => { if (video.seekable.length) video.currentTime = video.seekable.end(0); },
  };
}

function startFlv() {
  const player = mpegts.createPlayer(
    { type: "flv", isLive: true, url: flvUrl },
    { lazyLoad: false, liveSync: true, liveSyncTargetLatency: 0.8, liveSyncMaxLatency: 2, enableStashBuffer: false, autoCleanupSourceBuffer: true },
  );
  player.on(mpegts.Events.ERROR, (kind, detail) => (kind === mpegts.ErrorTypes.MEDIA_ERROR ? giveUp("flv", detail) : again("Playing broke off (" + detail + "). Trying again …")));
  player.on(mpegts.Events.LOADING_COMPLETE, () => again("The stream has ended. Waiting for it to come back …"));
  player.attachMediaElement(video);
  player.load();
  return {
    stop: () => player.destroy(),
    latency: behind,
    toLive: () => { if (video.buffered.length) video.currentTime = video.buffered.end(video.buffered.length - 1) - 0.3; },
  };
}

// A recording in the place of the live picture, until somebody goes back to live. Whatever it was recorded as, it comes as MP4.
function startRecording(item) {
  clearTimeout(retry);
  stop();
  const span = new URLSearchParams(query);
  span.set("start", item.start);
  span.set("duration", Math.max(1, Math.ceil(item.duration_seconds)) + "s");
  video.src = "/" + name + "/recordings.mp4?" + span;
  playing = {
    recorded: true,
    stop: () => {
      video.removeAttribute("src");
      video.load();
    },
    toLive: start,
  };
  show("recorded", "");
  const begun = video.play();
  if (begun) begun.catch(() => show("recorded", "This recording cannot be played here."));
}

// 1:02:03, 2:03
function clock(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const two = (n) => String(n).padStart(2, "0");
  return h ? h + ":" + two(m) + ":" + two(s) : m + ":" + two(s);
}

async function listRecordings() {
  const answer = await fetch("/" + name + "/recordings?" + query).catch(() => null);
  const items = answer && answer.ok ? (await answer.json()).items : [];
  archive.hidden = items.length === 0;
  recordings.replaceChildren(
    ...items.slice(-50).reverse().map((item) => {
      const entry = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = new Date(item.start).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
      button.addEventListener("click", () => {
        startRecording(item);
        for (const other of recordings.querySelectorAll("button")) other.removeAttribute("aria-current");
        button.setAttribute("aria-current", "true");
      });
      const size = document.createElement("span");
      size.className = "quiet size";
      size.textContent = clock(item.duration_seconds) + " · " + (item.bytes / 1e6).toFixed(1) + " MB";
      const link = document.createElement("a");
      link.href = item.url + search;
      link.download = "";
      link.textContent = item.format.toUpperCase();
      link.title = "Save this recording";
      entry.append(button, size, link);
      return entry;
    }),
  );
}

function behind() {
  const { buffered } = video;
  return buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : 0;
}

for (const way of order) choice.add(new Option(ways[way].title, way));
choice.value = order.includes(wanted) ? wanted : order[0];
choice.addEventListener("change", () => {
  failed.clear();
  clearTimeout(retry);
  stop();
  start();
});
sound.addEventListener("click", () => {
  video.muted = false;
  sound.hidden = true;
});
video.addEventListener("volumechange", () => { sound.hidden = !video.muted; });
video.addEventListener("playing", () => show(playing && playing.recorded ? "recorded" : "live", ""));
edge.addEventListener("click", () => {
  if (playing) playing.toLive();
  video.play();
});

setInterval(() => {
  if (!playing || playing.recorded) {
    edge.hidden = !playing;
    return (figures.textContent = "");
  }
  const size = video.videoWidth ? video.videoWidth + "×" + video.videoHeight + " · " : "";
  const latency = playing.latency();
  const what = choice.value === "flv" ? " s buffered" : " s behind live";
  figures.textContent = size + latency.toFixed(2) + what;
  figures.dataset.latency = latency.toFixed(3);
  edge.hidden = latency < 4;
}, 1000);

start();
listRecordings();
setInterval(listRecordings, 30000);
