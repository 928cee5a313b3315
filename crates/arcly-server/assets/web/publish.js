// Publishes a camera or the screen by WHIP.
"use strict";

const page = document.body.dataset;
const name = page.stream;
const ui = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const whipUrl = "/" + name + "/whip" + location.search;
const devices = navigator.mediaDevices;
const settings = ["size", "rate", "bitrate", "codec", "layers", "copies"];

for (const origin of document.querySelectorAll("[data-origin]")) origin.textContent = location.origin;

// What is shown and sent, and whether it is the "camera" or the "screen".
let media = null;
let source = null;
// The session while there is one, and whether there should be; how often in a row there was none.
let session = null;
let isWanted = false;
let attempts = 0;
let retry = null;
// Since when it is live; what keeps a phone from going to sleep over it.
let liveSince = null;
let wakeLock = null;
// Counts captures: one that is overtaken by another is let go.
let turn = 0;

function show(what, text = "") {
  ui.state.dataset.state = what;
  ui.state.textContent = what;
  ui.message.hidden = !text;
  ui.message.textContent = text;
  ui.live.textContent = isWanted ? "Stop" : "Go live";
  ui.live.dataset.live = isWanted;
  ui.live.disabled = !media;
  // What is agreed upon with the server stays as it is while it lasts.
  ui.codec.disabled = ui.layers.disabled = ui.copies.disabled = isWanted;
  ui.camera.setAttribute("aria-pressed", source === "camera");
  ui.screen.setAttribute("aria-pressed", source === "screen");
  ui.mute.hidden = !media || media.getAudioTracks().length === 0;
}

function complain(text = "") {
  ui.notice.hidden = !text;
  ui.notice.textContent = text;
}

// Capture.

const troubles = {
  NotAllowedError: "the browser was not allowed to. Allow it beside the address of this page, and choose again",
  NotFoundError: "there is none on this device",
  NotReadableError: "another program has it",
  OverconstrainedError: "it is not there any more",
};

function because(error) {
  return troubles[error.name] || error.message;
}

function pictureWanted() {
  const [width, height] = ui.size.value.split("x").map(Number);
  return { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: Number(ui.rate.value) } };
}

function microphoneWanted() {
  const { value } = ui.sounds;
  if (value === "none" || value === "screen") return false;
  return value ? { deviceId: { exact: value } } : true;
}

async function takeCamera() {
  const video = { ...pictureWanted(), ...(ui.cameras.value ? { deviceId: { exact: ui.cameras.value } } : { facingMode: "user" }) };
  const audio = microphoneWanted();
  try {
    return await devices.getUserMedia({ video, audio });
  } catch (error) {
    if (!audio || error.name !== "NotFoundError") throw error;
    const silent = await devices.getUserMedia({ video });
    complain("There is no microphone: this goes without sound.");
    return silent;
  }
}

async function takeScreen() {
  const taken = await devices.getDisplayMedia({ video: pictureWanted(), audio: ui.sounds.value === "screen" });
  const audio = microphoneWanted();
  if (!audio) return taken;
  try {
    for (const track of (await devices.getUserMedia({ audio })).getTracks()) taken.addTrack(track);
  } catch (error) {
    complain("This goes without sound: " + because(error) + ".");
  }
  return taken;
}

async function capture(what) {
  const mine = (turn += 1);
  complain();
  // Many phones open only one camera at a time.
  if (what === "camera" && source === "camera") for (const track of media.getVideoTracks()) track.stop();
  let taken;
  try {
    taken = await (what === "camera" ? takeCamera() : takeScreen());
  } catch (error) {
    if (mine !== turn) return;
    complain("The " + what + " cannot be used: " + because(error) + ".");
    if (media && media.getVideoTracks().every((track) => track.readyState === "ended")) letGo();
    return;
  }
  if (mine !== turn) return taken.getTracks().forEach((track) => track.stop());
  use(taken, what);
  listDevices();
}

// Shows what was captured, and sends it in the place of what was sent so far.
function use(taken, what) {
  const before = media;
  [media, source] = [taken, what];
  for (const track of before ? before.getTracks() : []) track.stop();
  for (const track of media.getVideoTracks()) {
    track.contentHint = what === "screen" ? "detail" : "motion";
    track.addEventListener("ended", () => media === taken && letGo("The " + what + " is not there any more."));
  }
  muteAsAsked();
  ui.video.srcObject = media;
  if (!isWanted) return show("preview");
  show(ui.state.dataset.state, ui.message.textContent);
  if (session) replaceTracks();
}

// Without the server noticing, if the same kinds of tracks are there as before.
function replaceTracks() {
  const transceivers = session.pc.getTransceivers();
  const tracks = transceivers.map(({ receiver }) => media.getTracks().find((track) => track.kind === receiver.track.kind));
  if (tracks.includes(undefined) || tracks.length !== media.getTracks().length) return publish();
  transceivers.forEach(({ sender }, at) => sender.replaceTrack(tracks[at]));
}

function letGo(why) {
  turn += 1;
  stop();
  for (const track of media ? media.getTracks() : []) track.stop();
  media = source = ui.video.srcObject = null;
  show("off air", "Choose the camera or the screen.");
  if (why) complain(why);
}

function muteAsAsked() {
  const isMuted = ui.mute.getAttribute("aria-pressed") === "true";
  for (const track of media ? media.getAudioTracks() : []) track.enabled = !isMuted;
  ui.mute.textContent = isMuted ? "Muted" : "Mute";
}

// Devices have names only once the browser has been allowed to use one.
async function listDevices() {
  const found = await devices.enumerateDevices().catch(() => []);
  const options = (kind, what) => found.filter((one) => one.kind === kind && one.deviceId).map((one, at) => new Option(one.label || what + " " + (at + 1), one.deviceId));
  const microphones = options("audioinput", "Microphone");
  const others = [...ui.sounds.options].filter((option) => ["screen", "none"].includes(option.value));
  fill(ui.cameras, [ui.cameras.options[0], ...options("videoinput", "Camera")]);
  fill(ui.sounds, [ui.sounds.options[0], ...microphones, ...others]);
}

function fill(select, options) {
  const { value } = select;
  select.replaceChildren(...options);
  select.value = options.some((option) => option.value === value) ? value : options[0].value;
}

// Publishing.

const CODECS = { h264: "H.264 (plays everywhere)", vp8: "VP8", vp9: "VP9", av1: "AV1", h265: "H.265" };

function listCodecs() {
  const known = RTCRtpSender.getCapabilities("video").codecs.map((codec) => codec.mimeType.slice("video/".length).toLowerCase());
  ui.codec.replaceChildren(...Object.keys(CODECS).filter((codec) => known.includes(codec)).map((codec) => new Option(CODECS[codec], codec)));
}

// The sizes that a picture is sent in, the best of them last as servers expect it: their names, how often smaller they are than the
// picture, and their part of its bitrate.
const LAYERS = [["quarter", 4, 1 / 12], ["half", 2, 1 / 4], ["full", 1, 1]];

function encodings() {
  const most = Number(ui.bitrate.value);
  const layer = ([rid, scaleResolutionDownBy, part]) => ({ rid, scaleResolutionDownBy, maxBitrate: Math.round(most * part) });
  return ui.layers.value === "1" ? [{ maxBitrate: most }] : LAYERS.map(layer);
}

// Only what was chosen is offered, so that the server cannot choose something else.
function prefer(transceiver) {
  const { codecs } = RTCRtpSender.getCapabilities("video");
  const of = (codec) => codecs.filter((one) => one.mimeType.toLowerCase() === "video/" + codec);
  const isWhole = (codec) => (codec.sdpFmtpLine || "").includes("packetization-mode=1");
  const chosen = of(ui.codec.value).sort((a, b) => isWhole(b) - isWhole(a));
  if (chosen.length && transceiver.setCodecPreferences) transceiver.setCodecPreferences([...chosen, ...of("rtx")]);
}

// What repeats the sound of the packet before (RED, RFC 2198), as long as the browser can; and what it repeats.
function redundant() {
  const { codecs } = RTCRtpSender.getCapabilities("audio");
  const of = (codec) => codecs.filter((one) => one.mimeType.toLowerCase() === "audio/" + codec);
  const [red, opus] = [of("red"), of("opus")];
  return red.length && opus.length && "setCodecPreferences" in RTCRtpTransceiver.prototype ? [...red, ...opus] : [];
}

// A phone turns its pictures itself: not everybody who plays them would know of this extension of RTP.
function describe(sdp) {
  const upright = sdp.replace(/^a=extmap:\d+(\/\w+)? urn:3gpp:video-orientation\r\n/gm, "");
  return source === "screen" ? withStereo(upright) : upright;
}

async function publish() {
  clearTimeout(retry);
  if (session) session.close();
  isWanted = true;
  show("connecting", attempts ? ui.message.textContent : "");
  const mine = (session = new RtcSession(whipUrl, { connected: () => connected(), over: (why) => over(why) }));
  try {
    for (const track of media.getTracks()) {
      const encoding = track.kind === "video" ? { sendEncodings: encodings() } : {};
      const transceiver = mine.pc.addTransceiver(track, { direction: "sendonly", streams: [media], ...encoding });
      if (track.kind === "video") prefer(transceiver);
      if (track.kind === "audio" && ui.copies.value === "2") transceiver.setCodecPreferences(redundant());
    }
    await mine.open(describe);
  } catch (error) {
    if (mine.isOver) return;
    mine.close();
    refused(error);
  }
}

async function connected() {
  attempts = 0;
  liveSince ??= performance.now();
  complain();
  show("live");
  stayAwake();
}

async function over({ text, byServer }) {
  const mine = session;
  const isUp = byServer && (await fetch("/readyz").then((answer) => answer.ok, () => false));
  if (mine !== session) return;
  // A server that goes down comes back; one that stays up has meant this publisher.
  if (!isUp) return later(text[0].toUpperCase() + text.slice(1) + ".");
  stop();
  complain("The server has ended this: it was stopped there, or somebody else publishes to " + name + " now.");
}

function refused({ name: kind, status, message }) {
  if (kind === "TypeError" && !status) return later("The server does not answer.");
  // A publisher that comes back may find its own session still there.
  if (status >= 500 || status === 429 || (status === 409 && liveSince !== null)) return later("The server does not take it now (" + message + ").");
  stop();
  if (!status) return complain("This browser cannot offer it: " + message + ".");
  if (status === 401) return complain("Publishing to " + name + " needs credentials: add ?token=… to the address of this page.");
  if (status === 403) return complain("These credentials are not for publishing to " + name + ".");
  complain("The server does not take this: " + message + ".");
}

function later(text) {
  session = null;
  show("waiting", text + " Trying again …");
  retry = setTimeout(publish, backOff(attempts, 10) * 1000);
  attempts += 1;
}

function stop() {
  clearTimeout(retry);
  if (session) session.close();
  session = liveSince = null;
  isWanted = false;
  attempts = 0;
  if (wakeLock) wakeLock.release().catch(() => {});
  wakeLock = null;
  ui.figures.textContent = "";
  show(media ? "preview" : "off air");
}

// A phone that goes to sleep stops its camera.
async function stayAwake() {
  if (navigator.wakeLock && liveSince !== null && !document.hidden) wakeLock = await navigator.wakeLock.request("screen").catch(() => null);
}

// The bitrate of what is being sent, and its size and rate, can be changed at any time.
async function change() {
  for (const sender of session ? session.pc.getSenders() : []) {
    if (!sender.track || sender.track.kind !== "video") continue;
    const parameters = sender.getParameters();
    encodings().forEach(({ maxBitrate }, at) => Object.assign(parameters.encodings[at] ?? {}, { maxBitrate }));
    await sender.setParameters(parameters).catch((error) => complain("The bitrate stays as it is: " + error.message + "."));
  }
  for (const track of media ? media.getVideoTracks() : []) {
    await track.applyConstraints(pictureWanted()).catch((error) => complain("The picture stays as it is: " + because(error) + "."));
  }
}

// Whether sound is sent as it was wanted, which its statistics do not say.
function isTwice() {
  const sender = session.pc.getSenders().find(({ track }) => track && track.kind === "audio");
  return Boolean(sender) && sender.getParameters().codecs[0]?.mimeType === "audio/red";
}

// What slows an encoder down, in words.
const LIMITS = { none: "nothing", cpu: "this device: it does not encode any faster", bandwidth: "the network: it does not take more", other: "something else" };

function rowsOf(figures) {
  const { outbound, remote, source: taken, path } = figures;
  const { video: pictures = {}, audio: sounds = {} } = outbound;
  const { video: report = {} } = remote;
  const encoder = pictures.encoderImplementation && "by " + pictures.encoderImplementation;
  const picture = [pictures.codec, pictures.frameWidth && pictures.frameWidth + "×" + pictures.frameHeight, (pictures.framesPerSecond || 0) + " a second", encoder];
  const level = taken.audio && taken.audio.audioLevel;
  const roundTrip = path.currentRoundTripTime ?? report.roundTripTime;
  return [
    ["Live for", clock((performance.now() - liveSince) / 1000)],
    ["Picture", picture.filter(Boolean).join(", ")],
    ...(pictures.layers ? [["Sizes", pictures.layers.map((one) => (one.frameWidth ? one.frameWidth + "×" + one.frameHeight : "none")).join(", ")]] : []),
    ["Bitrate", bits(figures.bps) + " of " + bits(Number(ui.bitrate.value)) + " for the picture"],
    ["Sound", sounds.codec ? sounds.codec + (isTwice() ? ", twice" : "") + (level > 0 ? ", " + (Math.round(20 * Math.log10(level)) || 0) + " dB" : ", silent") : "none"],
    ["Round trip", roundTrip === undefined ? "–" : Math.round(roundTrip * 1000) + " ms over " + (path.protocol || "?").toUpperCase()],
    ["Packets lost", ((report.fractionLost || 0) * 100).toFixed(1) + " %; " + (pictures.retransmittedPacketsSent || 0) + " were sent again"],
    ["Held back by", LIMITS[pictures.qualityLimitationReason] || "nothing"],
    ["Whole pictures asked for", String(pictures.pliCount || 0)],
  ];
}

async function look() {
  const mine = session;
  if (!mine || !mine.isConnected) return;
  const figures = await mine.statistics().catch(() => null);
  if (!figures || mine !== session || liveSince === null) return;
  const { video: pictures = {}, audio: sounds = {} } = figures.outbound;
  figures.bps = 8 * mine.rate("bytes", (pictures.bytesSent || 0) + (sounds.bytesSent || 0));
  showRows(ui.statistics, rowsOf(figures));
  ui.figures.textContent = bits(figures.bps) + " · " + (pictures.framesPerSecond || 0) + " pictures a second";
}

// Settings are kept for the next time, where the browser lets pages do so.
function remember() {
  try {
    localStorage.setItem("publish", JSON.stringify(Object.fromEntries(settings.map((id) => [id, ui[id].value]))));
  } catch { /* they are as they were the next time */ }
}

function recall() {
  try {
    for (const [id, value] of Object.entries(JSON.parse(localStorage.getItem("publish")) || {})) {
      if (settings.includes(id) && [...ui[id].options].some((option) => option.value === value)) ui[id].value = value;
    }
  } catch { /* as they are in the page */ }
}

// Why nothing can be published from here; null when something can.
function obstacle() {
  if (page.webrtc !== "on") return "WebRTC is switched off on this server: see webrtc.listen in its configuration.";
  if (!RtcSession.isSupported()) return "This browser has no WebRTC.";
  if (devices && devices.getUserMedia) return null;
  const address = "https://" + location.hostname + (page.https === "443" ? "" : ":" + page.https) + location.pathname;
  return "Browsers give cameras only to pages that came over HTTPS, or from the machine itself. " + (page.https ? "Open " + address : "Give the server a certificate (tls.certificate), and open this page over HTTPS") + ".";
}

function setUp() {
  const why = obstacle();
  if (why) return show("off air", why);
  listCodecs();
  if (!redundant().length) ui.copies.parentElement.remove();
  recall();
  listDevices();
  ui.camera.disabled = false;
  // Phones share no screens.
  ui.screen.hidden = !devices.getDisplayMedia;
  ui.screen.disabled = ui.screen.hidden;
  for (const option of [...ui.sounds.options]) if (option.value === "screen" && ui.screen.hidden) option.remove();
  devices.addEventListener("devicechange", listDevices);
  ui.camera.addEventListener("click", () => capture("camera"));
  ui.screen.addEventListener("click", () => capture("screen"));
  ui.live.addEventListener("click", () => (isWanted ? stop() : publish()));
  ui.mute.addEventListener("click", () => {
    ui.mute.setAttribute("aria-pressed", ui.mute.getAttribute("aria-pressed") !== "true");
    muteAsAsked();
  });
  for (const select of [ui.cameras, ui.sounds]) select.addEventListener("change", () => source && (source === "camera" || select === ui.sounds) && capture(source));
  for (const id of settings) ui[id].addEventListener("change", remember);
  for (const id of ["size", "rate", "bitrate"]) ui[id].addEventListener("change", change);
  ui.video.addEventListener("resize", () => {
    if (ui.video.videoWidth) ui.video.parentElement.style.setProperty("--shape", ui.video.videoWidth / ui.video.videoHeight);
  });
  window.addEventListener("pagehide", () => session && session.close());
  window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  document.addEventListener("visibilitychange", stayAwake);
  setInterval(look, 1000);
}

setUp();
