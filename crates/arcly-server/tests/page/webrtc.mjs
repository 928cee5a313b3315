// The pages that speak WebRTC, in Chromium; reports how it went as one line of JSON.
// Arguments: what to do (`play`, `publish`, `twice`, `tcp`, `lossy`, `simulcast`, `temporal`, `spatial`, `fall-back`), the server's address, the stream's path (of `play`
// several, with commas between), seconds to watch, how often to join, the folder of node_modules, Chromium, a PNG to write.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { launch } from "../../../arcly-testkit/assets/chromium.mjs";

const [task, server, streams, seconds, joins, modules, executablePath, screenshot] = process.argv.slice(2);
const [stream] = streams.split(",");
// A camera and a microphone that nobody has to allow: a picture that moves, and beeps.
const devices = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
// Three sizes of small pictures, too, of which Chromium makes fewer by itself.
if (task === "narrows") devices.push("--force-fieldtrials=WebRTC-LegacySimulcastLayerLimit/Disabled/");
const { browser, close } = await launch(modules, executablePath, { width: 1000, height: 1000 }, devices);
// For anything to happen on a machine that is busy with everything else.
const timeout = 60000;

const report = { errors: [], foreign: [] };
// What the browser itself says of answers that a task provokes; when it says so is its own affair.
const expected = [];
const url = (path) => server + "/" + stream + path;

// `change` is what becomes of the server's answers to offers on their way to the page, and `ask` of its offers.
async function open(address, change, ask = (sdp) => sdp) {
  const page = await browser.newPage();
  if (change) {
    await page.route(/\/wh[ei]p(\?|$)/, async (route) => {
      const response = await route.fetch({ timeout, postData: ask(route.request().postData() ?? "") });
      await route.fulfill({ response, body: change(await response.text()) });
    });
  }
  page.setDefaultTimeout(timeout);
  page.on("pageerror", (error) => report.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && report.errors.push(message.text() + " " + message.location().url));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(server) && !url.startsWith("data:") && !url.startsWith("blob:")) report.foreign.push(url);
  });
  await page.goto(address);
  return page;
}

// An answer that names no port of UDP, as if none of them were to be reached.
const withoutUdp = (sdp) => sdp.replace(/^a=candidate:\S+ \d+ udp .*\r\n/gim, "");
// An offer of a browser that knows no redundancy of sound.
const withoutRed = (sdp) => sdp.replace(/^(a=rtpmap:\d+ )red\/48000/gim, "$1none/48000");
const withoutTcp = (sdp) => sdp.replace(/^a=candidate:\S+ \d+ tcp .*\r\n/gim, "");

// A way to a port of UDP that is worse than the direct one: it carries so many bits per second towards the page, loses one datagram of so
// many, and takes so long, each way. What would have to wait longer than 300 ms for its turn is lost. `narrow` changes what it carries.
async function detour(port, { bps = Infinity, loses = Infinity, ms = 0 }) {
  // A way by itself keeps nobody waiting for its end.
  const near = createSocket("udp4").unref();
  const far = new Map();
  let busy = 0;
  let count = 0;
  const pass = (bits, send) => {
    const now = performance.now();
    // What goes to the server is little, and has a way of its own.
    const begins = bits ? Math.max(busy, now) : now;
    const ends = begins + (1000 * bits) / bps;
    count += 1;
    if (begins - now > 300 || count % loses === 0) return;
    if (bits) busy = ends;
    setTimeout(send, ends - now + ms);
  };
  const towards = ({ address, port: from }) => {
    const socket = createSocket("udp4").unref();
    return socket.on("message", (datagram) => pass(8 * datagram.length, () => near.send(datagram, from, address)));
  };
  near.on("message", (datagram, from) => {
    const name = from.address + from.port;
    if (!far.has(name)) far.set(name, towards(from));
    pass(0, () => far.get(name).send(datagram, port, "127.0.0.1"));
  });
  near.bind(0, "127.0.0.1");
  await once(near, "listening");
  const own = near.address().port;
  // What is on its way still is of no use to anybody.
  const close = () => [near, ...far.values()].forEach((socket) => socket.removeAllListeners("message"));
  const change = (sdp) => withoutTcp(sdp).replaceAll(" 127.0.0.1 " + port + " ", " 127.0.0.1 " + own + " ");
  const narrow = (to) => { bps = to; };
  return { change, close, narrow };
}
// The server's port of UDP, as it has told a player.
const portOf = (player) => player.evaluate(() => Number(playing.session.answer.match(/ udp \d+ 127\.0\.0\.1 (\d+) /i)[1]));

// Waits for what the server says at that path; the answer is null where there is nothing.
async function untilServer(path, what) {
  for (const end = performance.now() + timeout; ; await new Promise((done) => setTimeout(done, 100))) {
    const answer = await fetch(server + path);
    const body = answer.ok ? await answer.json() : null;
    if (what(body)) return true;
    if (performance.now() > end) throw new Error(path + ": " + JSON.stringify(body));
  }
}

const until = (page, what, argument) => page.waitForFunction(what, argument, { timeout, polling: 100 }).then((handle) => handle.jsonValue());
// The same of what the page has to wait for itself: a promise by itself would be true.
async function untilAsked(page, what, argument) {
  for (const end = performance.now() + timeout; ; await new Promise((done) => setTimeout(done, 100))) {
    const found = await page.evaluate(what, argument);
    if (found) return found;
    if (performance.now() > end) throw new Error("still not so: " + what);
  }
}
// What the player has been sent, in the end by the browser's own count.
const received = (page) => page.evaluate(async () => {
  const { inbound, path } = await playing.session.statistics();
  const { video, audio } = inbound;
  return {
    frames: video?.framesDecoded, freezes: video?.freezeCount, frozen: video?.totalFreezesDuration, lost: video?.packetsLost, width: video?.frameWidth,
    energy: audio?.totalAudioEnergy, concealed: audio?.concealedSamples, samples: audio?.totalSamplesReceived,
    codecs: [video?.codec, audio?.codec], protocol: path.protocol, shown: document.getElementById("player").value,
  };
});
// Until the player has decoded so many pictures more, and heard something meanwhile.
const goesOn = (page, pictures) => page.evaluate(async ([pictures, timeout]) => {
  const sample = async () => (await playing.session.statistics()).inbound;
  let before = null, now = null;
  for (const end = performance.now() + timeout; performance.now() < end; ) {
    now = playing?.session?.isConnected ? await sample() : {};
    // A session that begins anew counts anew.
    if (now.video && now.audio && !(now.video.framesDecoded >= before?.video.framesDecoded)) before = now;
    const isHeard = before && now.audio?.totalAudioEnergy > before.audio.totalAudioEnergy;
    if (isHeard && now.video?.framesDecoded >= before.video.framesDecoded + pictures) return true;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error("it does not go on: " + JSON.stringify([before, now]));
}, [pictures, timeout]);
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);

// What a finger is to press and is smaller than 44 pixels, and what stands out of its card.
const awkward = (page) => page.evaluate(() => {
  const isShown = (one) => one.checkVisibility();
  const name = (one) => one.tagName + " " + one.id + " " + one.textContent.trim().slice(0, 30);
  const box = (one) => one.getBoundingClientRect();
  const small = [...document.querySelectorAll("a, button, select, summary")].filter((one) => isShown(one) && Math.min(box(one).width, box(one).height) < 44);
  const inside = (one) => [...one.querySelectorAll("*")].filter((part) => isShown(part) && box(part).right > box(one).right - 8);
  return [...small, ...[...document.querySelectorAll(".card")].flatMap(inside)].map(name);
});

async function photograph(page, what) {
  await page.screenshot({ path: screenshot.replace(".png", what + ".png"), fullPage: true });
  await page.setViewportSize({ width: 390, height: 844 });
  report.fits = await fits(page);
  report.awkward = await awkward(page);
  await page.screenshot({ path: screenshot.replace(".png", what + "-phone.png"), fullPage: true });
  await page.setViewportSize({ width: 800, height: 380 });
  report.fits &&= await fits(page);
  await page.screenshot({ path: screenshot.replace(".png", what + "-landscape.png") });
  await page.setViewportSize({ width: 1000, height: 1000 });
}

// The loudest frequency that comes out of the player, in Hz: once it is that of the tone, or when the time is up. What a player makes up for
// what has come too late is no tone.
const tone = (page) => page.evaluate(async ([lowest, highest, timeout]) => {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  context.createMediaStreamSource(document.getElementById("video").srcObject).connect(analyser);
  const bins = new Float32Array(analyser.frequencyBinCount);
  let heard = null;
  for (const end = performance.now() + timeout; performance.now() < end; ) {
    analyser.getFloatFrequencyData(bins);
    const loudest = bins.indexOf(Math.max(...bins));
    if (bins[loudest] > -60) heard = (loudest * context.sampleRate) / analyser.fftSize;
    if (heard >= lowest && heard <= highest) break;
    await new Promise((done) => setTimeout(done, 100));
  }
  return heard;
}, [425, 455, timeout]);

// Opens the player, and waits for the first picture: how many milliseconds that took from the offer on.
async function join(path) {
  const page = await open(server + "/" + path + "?player=whep");
  await until(page, () => playing?.session?.isConnected && Number(document.getElementById("figures").dataset.first) > 0);
  return [page, Number(await page.getAttribute("#figures", "data-first"))];
}

// Joins a stream so many times, and stays the last time: listens, and watches in windows until one has no freeze in it: a machine that
// has stalled is forgiven, a server that does so is not.
async function watch(path) {
  const firsts = [];
  let page, first;
  for (let left = Number(joins); left > 0; left -= 1) {
    await page?.close();
    [page, first] = await join(path);
    firsts.push(first);
  }
  await page.click("#sound");
  const muted = await page.evaluate(() => document.getElementById("video").muted);
  const heard = await tone(page);
  const grew = await goesOn(page, 100);
  const windows = [];
  do {
    const before = await received(page);
    await page.waitForTimeout(Number(seconds) * 1000);
    const after = await received(page);
    const grown = (name) => after[name] - before[name];
    windows.push({ frames: grown("frames"), energy: grown("energy"), freezes: grown("freezes"), frozen: grown("frozen"), concealed: grown("concealed") / grown("samples") });
  } while (windows.at(-1).freezes > 0 && windows.length < 3);
  const latency = Number(await page.getAttribute("#figures", "data-latency"));
  return [page, { firsts, muted, tone: heard, goesOn: grew, windows, after: await received(page), latency }];
}

// What grows while a player is watched on a bad link, and the part of its sound that is made up.
async function windowOf(player) {
  // What is held back grows by and by.
  await player.waitForTimeout(5000);
  const before = await received(player);
  await player.waitForTimeout(Number(seconds) * 1000);
  const after = await received(player);
  const grown = (name) => after[name] - before[name];
  const counted = Object.fromEntries(["frames", "freezes", "frozen", "lost"].map((name) => [name, grown(name)]));
  return { ...counted, concealed: grown("concealed") / grown("samples") };
}

// Publishes the camera in three sizes, until the server has them all; returns the page.
async function inThreeSizes(size) {
  const page = await open(url("/publish"));
  for (const [id, value] of [["size", size], ["rate", "10"], ["layers", "3"]]) await page.selectOption("#" + id, value);
  await page.click("#camera");
  await until(page, () => document.getElementById("state").textContent === "preview");
  await page.click("#live");
  const pictures = (info) => (info?.tracks || []).filter(({ kind }) => kind === "video");
  await untilServer("/api/v1/streams/" + stream, (info) => pictures(info).length === 3);
  report.tracks = pictures(await fetch(server + "/api/v1/streams/" + stream).then((answer) => answer.json()));
  return page;
}

// Bits per second of the pictures that a player is sent.
const rateOf = (player) => player.evaluate(async () => {
  const bytes = async () => (await playing.session.statistics()).inbound.video.bytesReceived;
  const [began, before] = [performance.now(), await bytes()];
  await new Promise((done) => setTimeout(done, 3000));
  return (8000 * ((await bytes()) - before)) / (performance.now() - began);
});

// Publishes the camera in VP9 with these layers (webrtc-svc), without our page, which has no choice for them.
async function inLayers(mode, width, height) {
  const page = await open(server + "/");
  await page.evaluate(async ([address, mode, width, height]) => {
    const media = await navigator.mediaDevices.getUserMedia({ video: { width, height, frameRate: 20 }, audio: true });
    const pc = new RTCPeerConnection();
    window.publishing = pc;
    pc.addTrack(media.getAudioTracks()[0]);
    const video = pc.addTransceiver(media.getVideoTracks()[0], { direction: "sendonly", sendEncodings: [{ scalabilityMode: mode, maxBitrate: 1500000 }] });
    video.setCodecPreferences(RTCRtpSender.getCapabilities("video").codecs.filter(({ mimeType }) => mimeType === "video/VP9"));
    await pc.setLocalDescription();
    const answer = await fetch(address, { method: "POST", headers: { "content-type": "application/sdp" }, body: pc.localDescription.sdp });
    if (!answer.ok) throw new Error(await answer.text());
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  }, [url("/whip"), mode, width, height]);
  await untilServer("/api/v1/streams/" + stream, (info) => info?.frames_in > 60);
  return page;
}

// Pictures in a second that a player decodes, how wide they are, and what the publisher makes of the layers.
const decodes = (player) => player.evaluate(async () => {
  const sample = async () => (await playing.session.statistics()).inbound.video;
  const [began, before] = [performance.now(), await sample()];
  await new Promise((done) => setTimeout(done, 2000));
  const after = await sample();
  return { width: after.frameWidth, rate: (1000 * (after.framesDecoded - before.framesDecoded)) / (performance.now() - began) };
});

// Somebody sees all layers, and somebody else on a link of a part of that fewer, until `differ` says so of what they decode.
async function withFewerLayers(mode, [width, height], part, differ) {
  const page = await inLayers(mode, width, height);
  const player = await open(url("?player=whep"));
  await until(player, () => playing?.session?.isConnected);
  await player.click("#sound");
  await goesOn(player, 10);
  // What others are given of it.
  const video = await fetch(url(".mp4")).then(async ({ body }) => {
    const chunks = [];
    const end = performance.now() + 4000;
    for await (const chunk of body) if (chunks.push(chunk) && performance.now() > end) break;
    return Buffer.concat(chunks);
  });
  report.file = screenshot.replace(".png", ".mp4");
  await writeFile(report.file, video);
  report.rate = await rateOf(player);
  const link = await detour(await portOf(player), { bps: report.rate * part });
  const thin = await open(url("?player=whep"), link.change);
  await until(thin, () => playing?.session?.isConnected);
  await thin.click("#sound");
  await goesOn(thin, 10);
  for (const end = performance.now() + timeout; ; ) {
    [report.best, report.thin] = await Promise.all([decodes(player), decodes(thin)]);
    if (differ(report.best, report.thin)) break;
    if (performance.now() > end) throw new Error("both see the same: " + JSON.stringify(report));
  }
  // It is a picture that moves.
  report.goesOn = await goesOn(thin, 10);
  report.mode = await page.evaluate(() => publishing.getSenders().flatMap((sender) => sender.getParameters().encodings.map(({ scalabilityMode }) => scalabilityMode)).filter(Boolean));
  report.fits = await fits(thin);
  link.close();
}

const tasks = {
  temporal: () => withFewerLayers("L1T3", [640, 360], 0.7, (best, thin) => thin.rate > 1 && best.rate > 1.4 * thin.rate),
  spatial: () => withFewerLayers("L3T3_KEY", [960, 540], 0.5, (best, thin) => thin.rate > 1 && best.width > 1.4 * thin.width),

  async play() {
    report.seen = {};
    let page;
    for (const path of streams.split(",").reverse()) {
      await page?.close();
      [page, report.seen[path]] = await watch(path);
    }
    await page.click("summary");
    await until(page, () => document.getElementById("statistics").children.length > 0);
    report.rows = await page.locator("#statistics dt").allInnerTexts();
    await photograph(page, "");
    // Another network, as far as ICE is concerned: the session goes on.
    await page.evaluate(() => playing.session.restart());
    report.restarted = await goesOn(page, 50);
    // Whoever leaves says so.
    const isReader = ({ path, protocol }) => path === stream && protocol === "webrtc";
    report.came = await untilServer("/api/v1/readers", (readers) => readers?.items.some(isReader));
    await page.goto(server + "/");
    report.left = await untilServer("/api/v1/readers", (readers) => readers && !readers.items.some(isReader));
    [page] = await join("live/demo");
    await page.click("#sound");
    report.demo = await goesOn(page, 50);
  },

  async publish() {
    const page = await open(url("/publish"));
    await page.selectOption("#size", "640x360");
    await page.selectOption("#rate", "15");
    report.codecs = await page.locator("#codec option").evaluateAll((options) => options.map((option) => option.value));
    await page.click("#camera");
    await until(page, () => document.getElementById("state").textContent === "preview" && document.getElementById("video").videoWidth > 0);
    await until(page, () => document.querySelectorAll("#cameras option").length > 1);
    report.cameras = await page.locator("#cameras option").allInnerTexts();
    await page.click("#live");
    await until(page, () => document.getElementById("state").textContent === "live" && document.getElementById("statistics").children.length > 4);
    const player = await open(url("?player=whep"));
    await player.click("#sound");
    report.seen = await goesOn(player, 30);
    report.received = await received(player);
    await player.close();
    // Another camera in the place of this one, less of it, and the screen: all in the same session.
    const resource = await page.evaluate(() => session.resource);
    await page.selectOption("#cameras", { index: 1 });
    await page.selectOption("#bitrate", "500000");
    const sent = () => page.evaluate(async () => (await session.statistics()).outbound.video.framesSent);
    const before = await sent();
    await untilAsked(page, async (before) => (await session.statistics()).outbound.video.framesSent > before + 30, before);
    report.limit = await untilAsked(page, () => {
      const video = session.pc.getSenders().find((sender) => sender.track.kind === "video");
      const { maxBitrate } = video.getParameters().encodings[0];
      return maxBitrate === 500000 && maxBitrate;
    });
    report.same = resource === (await page.evaluate(() => session.resource));
    report.rows = await page.locator("#statistics").innerText();
    await photograph(page, "");
    // Somebody else who wants the name is told why not.
    expected.push(/status of 409 .*\/whip/);
    const other = await open(url("/publish"));
    await other.click("#camera");
    await until(other, () => document.getElementById("state").textContent === "preview");
    await other.click("#live");
    await until(other, () => !document.getElementById("notice").hidden);
    report.refused = await other.innerText("#notice");
    await other.close();
    // Somebody who runs the server ends it; and it can begin again. Whoever asks after a session then is told that there is none.
    expected.push(/status of 404 .*\/whip\//);
    await fetch(server + "/api/v1/streams/" + stream, { method: "DELETE" });
    await until(page, () => !document.getElementById("notice").hidden && session === null);
    report.ended = await page.innerText("#notice");
    await page.click("#live");
    await until(page, () => document.getElementById("state").textContent === "live");
    await page.click("#live");
    report.gone = await untilServer("/api/v1/streams/" + stream, (info) => info === null || info.publisher === null);
    report.stopped = await until(page, () => document.getElementById("state").textContent === "preview" && session === null);
  },

  // The camera, over a network that loses one datagram of twenty, with sound that is sent twice.
  async twice() {
    const start = async (change) => {
      const page = await open(url("/publish"), change);
      for (const [id, value] of [["size", "640x360"], ["rate", "15"], ["copies", "2"]]) await page.selectOption("#" + id, value);
      await page.click("#camera");
      await until(page, () => document.getElementById("state").textContent === "preview");
      await page.click("#live");
      await until(page, () => document.getElementById("state").textContent === "live");
      return page;
    };
    const isGone = (info) => info === null || info.publisher === null;
    const near = await start();
    const link = await detour(await near.evaluate(() => Number(session.answer.match(/ udp \d+ 127\.0\.0\.1 (\d+) /i)[1])), { loses: 20, ms: 50 });
    await near.click("#live");
    await untilServer("/api/v1/streams/" + stream, isGone);
    const page = await start(link.change);
    await untilServer("/api/v1/streams/" + stream, (info) => (report.recovered = info?.publisher?.webrtc?.recovered) > 5);
    await until(page, () => document.getElementById("statistics").textContent.includes("opus, twice"));
    report.rows = await page.locator("#statistics").innerText();
    report.fits = await fits(page);
    await page.click("#live");
    await untilServer("/api/v1/streams/" + stream, isGone);
    link.close();
  },

  // Neither the viewer nor the publisher gets to any port of UDP.
  async tcp() {
    const player = await open(url("?player=whep"), withoutUdp);
    await until(player, () => playing?.session?.isConnected && Number(document.getElementById("figures").dataset.first) > 0);
    await player.click("#sound");
    report.first = Number(await player.getAttribute("#figures", "data-first"));
    report.tone = await tone(player);
    report.goesOn = await goesOn(player, 50);
    report.received = await received(player);
    await player.close();
    const page = await open(server + "/live/web/publish", withoutUdp);
    await page.selectOption("#size", "640x360");
    await page.selectOption("#rate", "15");
    await page.click("#camera");
    await until(page, () => document.getElementById("state").textContent === "preview");
    await page.click("#live");
    report.published = await untilServer("/api/v1/streams/live/web", (info) => info?.publisher?.webrtc?.protocol === "tcp" && info.frames_in > 60);
    report.fits = await fits(page);
    await page.click("#live");
    await untilServer("/api/v1/streams/live/web", (info) => info === null || info.publisher === null);
  },

  // A round trip of a tenth of a second, on which one datagram of twenty is lost.
  async lossy() {
    const near = await open(url("?player=whep"));
    await until(near, () => playing?.session?.isConnected);
    const link = await detour(await portOf(near), { loses: 20, ms: 50 });
    await near.close();
    const player = await open(url("?player=whep"), link.change);
    await until(player, () => playing?.session?.isConnected);
    await player.click("#sound");
    report.goesOn = await goesOn(player, 100);
    report.repaired = await untilAsked(player, async () => {
      const { video } = (await playing.session.statistics()).inbound;
      return video?.nackCount > 0 && (video.retransmittedPacketsReceived ?? 0);
    });
    report.target = await until(player, () => playing?.session?.pc.getReceivers()[0].jitterBufferTarget);
    // What the server has noticed it makes up for, and what it sends then is understood.
    await untilServer("/api/v1/readers", (readers) => readers?.items.some(({ webrtc }) => (report.redundant = webrtc?.redundant_sent) > 100));
    report.goesOn &&= await goesOn(player, 10);
    if (Number(joins) > 1) {
      report.watched = await windowOf(player);
      const plain = await open(url("?player=whep"), link.change, withoutRed);
      await until(plain, () => playing?.session?.isConnected);
      await plain.click("#sound");
      await goesOn(plain, 100);
      report.plain = await windowOf(plain);
      await plain.close();
    }
    report.received = await received(player);
    report.fits = await fits(player);
    link.close();
  },

  // A picture in three sizes: whoever has room for it sees the largest, and whoever has not, another.
  async simulcast() {
    // Of smaller pictures Chromium makes two sizes at most.
    const page = await inThreeSizes("960x540");
    const player = await open(url("?player=whep"));
    await until(player, () => playing?.session?.isConnected);
    await player.click("#sound");
    await goesOn(player, 10);
    // A link that carries three quarters of that.
    const rate = await rateOf(player);
    const link = await detour(await portOf(player), { bps: rate * 0.75 });
    const thin = await open(url("?player=whep"), link.change);
    await until(thin, () => playing?.session?.isConnected);
    await thin.click("#sound");
    report.rate = rate;
    await goesOn(thin, 10);
    for (const end = performance.now() + timeout; ; await player.waitForTimeout(100)) {
      [report.best, report.thin] = [(await received(player)).width, (await received(thin)).width];
      // Half of it, whatever the browser makes of the picture where its machine is busy.
      if (report.thin && report.best >= 1.5 * report.thin) break;
      if (performance.now() > end) throw new Error("both see the same: " + JSON.stringify(report));
    }
    report.sizes = await page.locator("#statistics").innerText();
    report.switches = await fetch(server + "/api/v1/readers").then((answer) => answer.json()).then(({ items }) => items.map(({ webrtc }) => webrtc?.layer_switches));
    report.fits = await fits(page);
    link.close();
  },

  // The same of pictures that any machine has time for, to one viewer, whose link becomes too narrow for the largest, and wide again.
  async narrows() {
    const page = await inThreeSizes("640x360");
    const player = await open(url("?player=whep"));
    await until(player, () => playing?.session?.isConnected);
    const link = await detour(await portOf(player), {});
    await player.close();
    const viewer = await open(url("?player=whep"), link.change);
    await until(viewer, () => playing?.session?.isConnected);
    await viewer.click("#sound");
    await goesOn(viewer, 10);
    const widthOf = async () => (await received(viewer)).width;
    const untilWidth = async (what) => {
      for (const end = performance.now() + timeout; ; await viewer.waitForTimeout(100)) {
        const width = await widthOf();
        if (what(width)) return width;
        if (performance.now() > end) throw new Error("it is still " + width + " wide: " + JSON.stringify(report));
      }
    };
    report.best = await untilWidth((width) => width >= 480);
    report.rate = await rateOf(viewer);
    link.narrow(report.rate * 0.75);
    let began = performance.now();
    report.thin = await untilWidth((width) => width > 0 && width <= report.best / 1.5);
    report.down = performance.now() - began;
    const isSent = (rids) => untilServer("/api/v1/readers", (readers) => readers?.items.some(({ webrtc }) => rids.includes(webrtc?.layer?.rid)));
    report.thinIsNamed = await isSent(["half", "quarter"]);
    report.thinGoesOn = await goesOn(viewer, 10);
    link.narrow(Infinity);
    began = performance.now();
    report.again = await untilWidth((width) => width >= report.best);
    report.up = performance.now() - began;
    report.bestIsNamed = await isSent(["full"]);
    report.goesOn = await goesOn(viewer, 10);
    report.sizes = await page.locator("#statistics").innerText();
    report.switches = await fetch(server + "/api/v1/readers").then((answer) => answer.json()).then(({ items }) => items.map(({ webrtc }) => webrtc?.layer_switches));
    report.fits = await fits(page);
    link.close();
  },

  async "fall-back"() {
    const page = await browser.newPage();
    page.setDefaultTimeout(timeout);
    page.on("pageerror", (error) => report.errors.push(String(error)));
    const detail = "the stream is AV1, which is not among the codecs of the offer";
    await page.route("**/whep*", (route) => route.fulfill({ status: 406, contentType: "application/problem+json", body: JSON.stringify({ status: 406, detail }) }));
    await page.goto(url(""));
    await until(page, () => document.getElementById("player").value === "hls" && document.getElementById("video").getVideoPlaybackQuality().totalVideoFrames > 10);
    report.notice = await page.innerText("#notice");
    await photograph(page, "");
    // By hand, and so that it stays like this.
    await page.selectOption("#player", "flv");
    await until(page, () => playing && document.getElementById("player").value === "flv" && document.getElementById("state").textContent === "live");
    report.address = page.url();
    report.quiet = await page.isHidden("#notice");
  },
};

try {
  await tasks[task]();
} catch (error) {
  report.errors.push(String(error));
  for (const page of browser.pages()) {
    report.errors.push(page.url() + " " + (await page.locator("main").innerText({ timeout: 1000 }).catch(() => "")));
  }
} finally {
  await close();
}
report.errors = report.errors.filter((error) => !expected.some((form) => form.test(error)));
console.log(JSON.stringify(report));
