// Plays one stream: by WHEP (WebRTC), over LL-HLS where that does not work, over HTTP-FLV where that does not either, or over what is
// asked for. Starts again when it comes back.
"use strict";

const page = document.body.dataset;
const name = page.stream;
const video = document.getElementById("video");
const state = document.getElementById("state");
const message = document.getElementById("message");
const sound = document.getElementById("sound");
const edge = document.getElementById("edge");
const figures = document.getElementById("figures");
const notice = document.getElementById("notice");
const statistics = document.getElementById("statistics");
const choice = document.getElementById("player");
const archive = document.getElementById("archive");
const recordings = document.getElementById("recordings");

for (const host of document.querySelectorAll("[data-host]")) host.textContent = location.hostname;
for (const origin of document.querySelectorAll("[data-origin]")) origin.textContent = location.origin;

// What the page itself understands of its query is not for the server.
const query = new URLSearchParams(location.search);
const wanted = query.get("player");
query.delete("player");
const search = String(query) && "?" + query;
const whepUrl = "/" + name + "/whep" + search;
const flvUrl = "/" + name + ".flv" + search;
const hlsUrl = "/" + name + "/index.m3u8" + search;

// A way to play: what the browser needs for it, and how it goes.
// `start` returns { stop, latency, toLive, rows }: seconds behind, and rows of statistics.
const ways = {
  whep: { title: "WebRTC", works: () => RtcSession.isSupported(), start: startWhep },
  hls: { title: "LL-HLS", script: page.hls, works: () => window.Hls && Hls.isSupported(), start: startHls },
  native: { title: "HLS (browser)", works: () => page.hls && !window.MediaSource && video.canPlayType("application/vnd.apple.mpegurl"), start: startNative },
  flv: { title: "HTTP-FLV", script: page.mpegts, works: () => window.mpegts && mpegts.isSupported(), start: startFlv },
};
const order = ["whep", "hls", "native", "flv"].filter((way) => (way !== "whep" || page.webrtc) && (way !== "hls" || page.hls));
// Ways that did not work, and why.
const failed = new Map();
// Somebody has chosen: what they chose is given more time.
let isChosen = order.includes(wanted);
let preferred = isChosen ? wanted : order[0];
let playing = null;
let retry = null;
let attempts = 0;
// Counts beginnings: one that waits for something while another begins is not gone on with.
let turn = 0;

function show(what, text) {
  state.dataset.state = what;
  state.textContent = what;
  message.hidden = !text;
  message.textContent = text;
}

function stop() {
  clearTimeout(retry);
  turn += 1;
  if (playing) playing.stop();
  playing = null;
}

function again(text) {
  stop();
  show("waiting", text);
  retry = setTimeout(start, backOff(attempts, 5) * 1000);
  attempts += 1;
}

// What comes back may be something else, that another way can play.
function ended() {
  failed.clear();
  again("The stream has ended. Waiting for it to come back …");
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
  stop();
  const mine = turn;
  const answer = await fetch(flvUrl, { method: "HEAD" }).catch(() => null);
  if (mine !== turn) return;
  if (!answer) return again("The server does not answer. Trying again …");
  if (answer.status === 404) return again(name + " is not live at the moment. It starts here as soon as it is.");
  if (answer.status === 401 || answer.status === 403) return show("locked", "This stream needs credentials: add ?token=… to the address.");
  if (!answer.ok) return again("The server cannot play this stream now (" + answer.status + "). Trying again …");
  play();
}

async function play() {
  stop();
  const mine = turn;
  for (const way of [preferred, ...order]) {
    if (failed.has(way)) continue;
    await load(ways[way].script);
    if (mine !== turn) return;
    if (!ways[way].works()) continue;
    choice.value = way;
    explain(way);
    show("connecting", "");
    playing = ways[way].start();
    sound.hidden = !video.muted;
    return;
  }
  failed.clear();
  show("unsupported", "This browser cannot play live streams here. Use one of the addresses below.");
}

function begin(what) {
  const begun = video.play();
  if (begun) begun.catch((error) => error.name === "NotAllowedError" && show(what, "Press play to begin."));
}

// Why it is played in another way than was to be expected.
function explain(way) {
  const why = [...failed].map(([other, detail]) => ways[other].title + " did not work here: " + detail + ".");
  notice.hidden = why.length === 0;
  notice.textContent = why.concat("Played over " + ways[way].title + " instead.").join(" ");
}

// Another way is tried when this one cannot play the stream at all, as with codecs that it does not know.
function giveUp(way, detail) {
  stop();
  failed.set(way, detail);
  if (order.some((other) => !failed.has(other))) return play();
  failed.clear();
  again("Playing broke off (" + detail + "). Trying again …");
}

// What of the picture is known however it comes.
function pictureRows() {
  const { totalVideoFrames = 0, droppedVideoFrames = 0 } = video.getVideoPlaybackQuality ? video.getVideoPlaybackQuality() : {};
  return [
    ["Picture", video.videoWidth ? video.videoWidth + "×" + video.videoHeight : "none yet"],
    ["Pictures dropped", droppedVideoFrames + " of " + totalVideoFrames],
  ];
}

// For how many round trips a picture waits for what was lost of it: there and back twice, and a half for the request to be noticed. No more
// than that many milliseconds, and a little more than none.
const REPAIR_TRIPS = 2.5;
const REPAIR_MS = { margin: 50, most: 600, step: 50 };
// A link is bad when something is lost twice in so many milliseconds, and good again when nothing was for so many.
const BAD_MS = 10000;
const GOOD_MS = 20000;

// Has the browser wait for repairs while the link is bad. One that only receives does not know how long a round trip takes (it sends no
// reports that would be answered), and shows a picture before what was lost of it can have come again.
function repairs(session) {
  let lostAt = -Infinity, badAt = -Infinity, target = null;
  return (now, asked, roundTrip) => {
    if (session.growth("asked", asked).by > 0) {
      if (now - lostAt < BAD_MS) badAt = now;
      lostAt = now;
    }
    // Checks of the connection measure it, now and then: until then nobody knows how long to wait.
    if (target === null && !roundTrip) return;
    const wait = Math.min(REPAIR_MS.most, REPAIR_TRIPS * 1000 * (roundTrip || 0) + REPAIR_MS.margin);
    const wanted = now - badAt < GOOD_MS ? Math.max(target || 0, Math.ceil(wait / REPAIR_MS.step) * REPAIR_MS.step) : null;
    if (wanted === target) return;
    target = wanted;
    for (const receiver of session.pc.getReceivers()) if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = target;
  };
}

function startWhep() {
  const patience = isChosen ? 30000 : RTC_CONNECT_MS;
  const stream = new MediaStream();
  let first = null, latency = NaN, rows = [];
  // When media could flow, and when some last did.
  let connectedAt = Infinity, movedAt = Infinity;
  const connected = () => { connectedAt = movedAt = performance.now(); };
  const over = ({ text, byServer, again: prospects }) => {
    if (session.isConnected) return byServer ? ended() : again("Playing broke off: " + text + ". Trying again …");
    if (prospects) return again("Trying another way to the server …");
    giveUp("whep", text);
  };
  const session = new RtcSession(whepUrl, { connected, over }, patience);
  session.pc.addTransceiver("video", { direction: "recvonly" });
  session.pc.addTransceiver("audio", { direction: "recvonly" });
  session.pc.addEventListener("track", ({ track }) => stream.addTrack(track));
  const repair = repairs(session);
  session.open(withStereo).catch((error) => {
    if (session.isOver) return;
    // It was there a moment ago.
    if (error.status === 404) return ended();
    giveUp("whep", error.message);
  });

  const begun = () => {
    if (session.isOver) return;
    first ??= performance.now() - session.postedAt;
    figures.dataset.first = Math.round(first);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(begun);
  video.addEventListener("playing", begun, { once: true });
  video.srcObject = stream;
  begin("live");

  const look = setInterval(async () => {
    const found = await session.statistics().catch(() => null);
    if (!found || session.isOver) return;
    const { video: pictures = {}, audio: sounds = {} } = found.inbound;
    latency = whepLatency(session, found);
    rows = whepRows(session, found, first, latency);
    const now = performance.now();
    repair(now, pictures.nackCount, found.path.currentRoundTripTime);
    const packets = (pictures.packetsReceived || 0) + (sounds.packetsReceived || 0);
    if (session.growth("moved", packets).by > 0) movedAt = now;
    if (now - movedAt > 3000) show("waiting", "The publisher sends nothing at the moment …");
    else if (first !== null && state.dataset.state === "waiting") show("live", "");
    // Pictures that come and are not decoded are worth as little as none.
    const isBlind = pictures.packetsReceived > 0 && !pictures.framesDecoded;
    if (isBlind && now - connectedAt > patience) giveUp("whep", "the browser does not decode the pictures");
  }, 1000);
  return {
    session,
    stop: () => {
      clearInterval(look);
      session.close();
      video.srcObject = null;
    },
    latency: () => latency,
    toLive: () => {},
    rows: () => rows,
  };
}

// Seconds from the server to the screen: the way, and what the browser holds back so that it plays without a stop.
function whepLatency(session, { inbound: { video: pictures, audio: sounds }, path }) {
  const { jitterBufferDelay, jitterBufferEmittedCount } = pictures || sounds || {};
  const held = session.growth("held", jitterBufferDelay);
  const shown = session.growth("shown", jitterBufferEmittedCount);
  return shown.by > 0 ? held.by / shown.by + (path.currentRoundTripTime || 0) / 2 : NaN;
}

function whepRows(session, { inbound, path }, first, latency) {
  const { video: pictures = {}, audio: sounds = {} } = inbound;
  const sum = (name) => (pictures[name] || 0) + (sounds[name] || 0);
  const [packets, lost] = [sum("packetsReceived"), Math.max(0, sum("packetsLost"))];
  const picture = [pictures.codec, pictures.frameWidth && pictures.frameWidth + "×" + pictures.frameHeight, pictures.framesPerSecond && pictures.framesPerSecond + " a second"];
  return [
    ["Picture", picture.filter(Boolean).join(", ") || "none"],
    ["Sound", sounds.packetsReceived ? sounds.codec : "none"],
    ["Bitrate", bits(8 * session.rate("bytes", sum("bytesReceived")))],
    ["Behind the server", Number.isFinite(latency) ? Math.round(latency * 1000) + " ms" : "–"],
    ["Round trip", Math.round((path.currentRoundTripTime || 0) * 1000) + " ms over " + (path.protocol || "?").toUpperCase()],
    ["Packets lost", lost + " of " + (packets + lost) + "; " + sum("retransmittedPacketsReceived") + " came again"],
    ["Freezes", (pictures.freezeCount || 0) + " (" + (pictures.totalFreezesDuration || 0).toFixed(1) + " s)"],
    ["First picture", first === null ? "not yet" : Math.round(first) + " ms after the offer was sent"],
  ];
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
    if (!details.live) ended();
  });
  hls.loadSource(hlsUrl);
  hls.attachMedia(video);
  begin("live");
  return {
    stop: () => {
      clearInterval(pace);
      video.playbackRate = 1;
      hls.destroy();
    },
    latency: () => hls.latency,
    toLive: () => { if (hls.liveSyncPosition) video.currentTime = hls.liveSyncPosition; },
    rows: () => [
      ...pictureRows(),
      ["Behind live", hls.latency.toFixed(2) + " s, wanted " + (hls.targetLatency ?? 0).toFixed(2) + " s"],
      ["Buffered", behind().toFixed(2) + " s"],
      ["Measured rate", bits(hls.bandwidthEstimate || 0)],
    ],
  };
}

function startNative() {
  video.src = hlsUrl;
  const broken = () => giveUp("native", "the browser cannot play it");
  video.addEventListener("ended", ended);
  video.addEventListener("error", broken);
  begin("live");
  return {
    stop: () => {
      video.removeEventListener("ended", ended);
      video.removeEventListener("error", broken);
      video.removeAttribute("src");
      video.load();
    },
    latency: () => (video.seekable.length ? video.seekable.end(0) - video.currentTime : 0),
    toLive: () => { if (video.seekable.length) video.currentTime = video.seekable.end(0); },
    rows: pictureRows,
  };
}

function startFlv() {
  const player = mpegts.createPlayer(
    { type: "flv", isLive: true, url: flvUrl },
    { lazyLoad: false, liveSync: true, liveSyncTargetLatency: 0.8, liveSyncMaxLatency: 2, enableStashBuffer: false, autoCleanupSourceBuffer: true },
  );
  player.on(mpegts.Events.ERROR, (kind, detail) => (kind === mpegts.ErrorTypes.MEDIA_ERROR ? giveUp("flv", detail) : again("Playing broke off (" + detail + "). Trying again …")));
  player.on(mpegts.Events.LOADING_COMPLETE, ended);
  player.attachMediaElement(video);
  player.load();
  begin("live");
  return {
    stop: () => player.destroy(),
    latency: behind,
    toLive: () => { if (video.buffered.length) video.currentTime = video.buffered.end(video.buffered.length - 1) - 0.3; },
    rows: () => [...pictureRows(), ["Buffered", behind().toFixed(2) + " s"]],
  };
}

// A recording in the place of the live picture, until somebody goes back to live. Whatever it was recorded as, it comes as MP4.
function startRecording(item) {
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
    rows: pictureRows,
  };
  notice.hidden = true;
  show("recorded", "");
  const begun = video.play();
  if (begun) begun.catch(() => show("recorded", "This recording cannot be played here."));
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
choice.value = preferred;
choice.addEventListener("change", () => {
  failed.clear();
  attempts = 0;
  isChosen = true;
  preferred = choice.value;
  // Whoever reloads the page, or sends its address to somebody, has it played like this again.
  const address = new URL(location);
  address.searchParams.set("player", preferred);
  history.replaceState(null, "", address);
  start();
});
sound.addEventListener("click", () => {
  video.muted = false;
  sound.hidden = true;
});
video.addEventListener("volumechange", () => { sound.hidden = !video.muted; });
video.addEventListener("playing", () => {
  if (!playing) return;
  attempts = 0;
  show(playing.recorded ? "recorded" : "live", "");
});
// Pictures that are higher than wide, as phones send them, have a place of their shape.
video.addEventListener("resize", () => {
  if (video.videoWidth) video.parentElement.style.setProperty("--shape", video.videoWidth / video.videoHeight);
});
edge.addEventListener("click", () => {
  if (!playing) return;
  playing.toLive();
  video.play().catch(() => {});
});
// A page that is left lets go of its session at once; one that is come back to begins again.
window.addEventListener("pagehide", stop);
window.addEventListener("pageshow", ({ persisted }) => persisted && start());

setInterval(() => {
  showRows(statistics, playing ? playing.rows() : []);
  if (!playing || playing.recorded) {
    edge.hidden = !playing;
    return (figures.textContent = "");
  }
  const size = video.videoWidth ? video.videoWidth + "×" + video.videoHeight : "";
  const latency = playing.latency();
  const what = { flv: " s buffered", whep: " ms behind the server" }[choice.value] || " s behind live";
  const much = choice.value === "whep" ? Math.round(latency * 1000) : latency.toFixed(2);
  figures.textContent = [size, Number.isFinite(latency) && much + what].filter(Boolean).join(" · ");
  figures.dataset.latency = Number.isFinite(latency) ? latency.toFixed(3) : "";
  edge.hidden = !(latency >= 4);
}, 1000);

start();
listRecordings();
setInterval(listRecordings, 30000);
