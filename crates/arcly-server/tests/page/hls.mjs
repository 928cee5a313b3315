// Plays a stream over LL-HLS in Chromium for a while, and reports how it went as one line of JSON.
// Arguments: the server's address, the stream's path, the player (`hls`: the server's own page; `shaka`), seconds to play,
// the folder of node_modules, Chromium.
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [server, stream, player, seconds, modules, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, "x.js"))("playwright-core");
const profile = mkdtempSync(join(tmpdir(), "arcly-hls-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
  ],
});

// Counts from the first picture on: time that does not go on is a stall.
function watch() {
  const video = document.querySelector("video");
  const seen = { stalls: [], latencies: [], errors: [] };
  window.seen = seen;
  let last = video.currentTime, since = performance.now(), stalled = 0;
  setInterval(() => {
    const now = performance.now();
    if (video.currentTime !== last) {
      if (stalled) seen.stalls.push(Math.round(stalled));
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
  page.on("console", (message) => message.type() === "error" && report.errors.push(message.text()));
  if (player === "shaka") {
    await page.goto(server + "/healthz");
    await page.addScriptTag({ path: join(modules, "shaka-player/dist/shaka-player.compiled.js") });
    await page.evaluate(async (uri) => {
      document.body.innerHTML = "<video autoplay muted></video>";
      const video = document.querySelector("video");
      const player = new shaka.Player();
      await player.attach(video);
      player.configure({ streaming: { lowLatencyMode: true } });
      player.addEventListener("error", (event) => console.error("shaka " + event.detail.code));
      window.latency = () => player.getStats().liveLatency;
      await player.load(uri);
    }, server + "/" + stream + "/index.m3u8");
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
  await page.waitForTimeout(Number(seconds) * 1000);
  report.second = await sample();
  Object.assign(report, await page.evaluate(() => ({ stalls: window.seen.stalls, latencies: window.seen.latencies })));
  report.shown = await page.evaluate(() => document.getElementById("player")?.value);
} catch (error) {
  report.errors.push(String(error));
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(report));
