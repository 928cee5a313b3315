// Opens the list of streams and the player in Chromium, and reports what plays as one line of JSON.
// Arguments: the server's address, the folder of node_modules, Chromium, a PNG to write.
import { launch } from "../../../arcly-testkit/assets/chromium.mjs";

const [server, modules, executablePath, screenshot] = process.argv.slice(2);
const { browser, close } = await launch(modules, executablePath, { width: 1000, height: 900 });

const report = { errors: [], foreign: [] };
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => report.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && report.errors.push(message.text()));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(server) && !url.startsWith("data:") && !url.startsWith("blob:")) report.foreign.push(url);
  });

  await page.goto(server + "/");
  await page.waitForSelector("#streams a[href='/live/demo']");
  report.listed = await page.locator("#streams li").allInnerTexts();
  await page.screenshot({ path: screenshot.replace(".png", "-list.png") });

  await page.click("#streams a[href='/live/demo']");
  const sample = () => page.evaluate(() => {
    const video = document.getElementById("video");
    return {
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
      dropped: video.getVideoPlaybackQuality().droppedVideoFrames,
      audio: video.webkitAudioDecodedByteCount,
      time: video.currentTime,
      width: video.videoWidth,
      state: document.getElementById("state").textContent,
    };
  });
  await page.waitForFunction(() => document.getElementById("video").getVideoPlaybackQuality().totalVideoFrames > 10, null, { timeout: 20000 });
  report.first = await sample();
  await page.waitForTimeout(2500);
  report.second = await sample();
  await page.screenshot({ path: screenshot });

  await page.setViewportSize({ width: 390, height: 800 });
  report.scrolls = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  await page.screenshot({ path: screenshot.replace(".png", "-phone.png") });

  // The browser itself reports the 404 that is expected here.
  const errors = report.errors.length;
  await page.goto(server + "/live/none");
  await page.waitForFunction(() => document.getElementById("message").textContent.includes("not live"));
  report.unknown = await page.textContent("#message");
  report.errors.length = errors;
} catch (error) {
  report.errors.push(String(error));
} finally {
  await close();
}
console.log(JSON.stringify(report));
