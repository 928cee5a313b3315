// Plays a stream over LL-HLS or LL-DASH in Chromium for a while, and reports how it went as one line of JSON. A line before
// that, `playing`, says that it has begun.
// Arguments: the server's address, the stream's path, the player (`hls`: the server's own page; `shaka`; for DASH `dashjs`,
// `shaka-dash`), seconds to play, or `width=640` for until pictures of that width have been played for two seconds; the folder
// of node_modules, Chromium, and the folder of node_modules that has the players.
import { launch } from "../../../arcly-testkit/assets/chromium.mjs";
import { join } from "node:path";

const [server, stream, player, seconds, modules, executablePath, players] = process.argv.slice(2);
const { browser, close } = await launch(modules, executablePath);

// Counts from the first picture on: time that does not go on is a stall.
function watch() {
  const video = document.querySelector("video");
  const seen = { stalls: [], latencies: [] };
  window.seen = seen;
  const began = performance.now();
  let last = video.currentTime, since = began, stalled = 0;
  setInterval(() => {
    const now = performance.now();
    if (video.currentTime !== last) {
      if (stalled) seen.stalls.push({ ms: Math.round(stalled), at: Math.round(now - began) });
      [last, since, stalled] = [video.currentTime, now, 0];
    } else if (now - since > 500) {
      stalled = now - since;
    }
  }, 50);
  setInterval(() => {
    const latency = window.latency ? window.latency() : Number(document.getElementById("figures").dataset.latency);
    if (latency) seen.latencies.push(latency);
  }, 500);
}

const report = { player, errors: [] };
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => report.errors.push(String(error)));
  page.on("console", (message) => {
    // Pages without markup of their own have no icon.
    const icon = message.location().url.endsWith("/favicon.ico");
    if (message.type() === "error" && !icon) report.errors.push(message.text() + " " + message.location().url);
  });
  if (player === "dashjs") {
    await page.goto(server + "/healthz");
    await page.addScriptTag({ path: join(players, "dashjs/dist/modern/umd/dash.all.min.js") });
    await page.evaluate((uri) => {
      document.body.innerHTML = "<video autoplay muted></video>";
      const player = dashjs.MediaPlayer().create();
      player.on(dashjs.MediaPlayer.events.ERROR, (event) => console.error("dash.js " + event.error.code + " " + event.error.message));
      player.initialize(document.querySelector("video"), uri, true);
      window.latency = () => player.getCurrentLiveLatency();
    }, server + "/" + stream + "/manifest.mpd");
  } else if (player.startsWith("shaka")) {
    await page.goto(server + "/healthz");
    await page.addScriptTag({ path: join(players, "shaka-player/dist/shaka-player.compiled.js") });
    await page.evaluate(async (uri) => {
      document.body.innerHTML = "<video autoplay muted></video>";
      const video = document.querySelector("video");
      const player = new shaka.Player();
      await player.attach(video);
      player.configure({ streaming: { lowLatencyMode: true } });
      const said = (error) => console.error("shaka " + error.code + " " + JSON.stringify(error.data) + " " + (video.error?.message ?? ""));
      player.addEventListener("error", (event) => said(event.detail));
      window.latency = () => player.getStats().liveLatency;
      await player.load(uri);
    }, server + "/" + stream + (player === "shaka" ? "/index.m3u8" : "/manifest.mpd"));
  } else {
    await page.goto(server + "/" + stream + "?player=" + player);
  }
  await page.waitForFunction(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames > 10, null, { timeout: 30000 });
  await page.evaluate(watch);
  const sample = () => page.evaluate(() => {
    const video = document.querySelector("video");
    const quality = video.getVideoPlaybackQuality();
    return { time: video.currentTime, frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames, audio: video.webkitAudioDecodedByteCount, width: video.videoWidth };
  });
  report.first = await sample();
  console.log("playing");
  if (seconds.startsWith("width=")) {
    const width = Number(seconds.slice("width=".length));
    const shown = (since) => page.waitForFunction(([width, since]) => {
      const video = document.querySelector("video");
      return video.videoWidth === width && (since === null || video.currentTime > since + 2) && { time: video.currentTime };
    }, [width, since], { timeout: 40000 }).then((handle) => handle.jsonValue());
    await shown((await shown(null)).time);
  } else {
    await page.waitForTimeout(Number(seconds) * 1000);
  }
  report.second = await sample();
  Object.assign(report, await page.evaluate(() => ({ stalls: window.seen.stalls, latencies: window.seen.latencies })));
  report.shown = await page.evaluate(() => document.getElementById("player")?.value);
} catch (error) {
  report.errors.push(String(error));
} finally {
  await close();
}
console.log(JSON.stringify(report));
