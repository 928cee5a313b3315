// Opens a stream's page in Chromium, plays its oldest recording and goes back to live; reports how it went as one line of JSON.
// Arguments: the server's address, the folder of node_modules, Chromium, a PNG to write.
import { launch } from "../../../arcly-testkit/assets/chromium.mjs";

const [server, modules, executablePath, screenshot] = process.argv.slice(2);
const { browser, close } = await launch(modules, executablePath, { width: 1000, height: 1100 });

const report = { errors: [] };
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => report.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && report.errors.push(message.text()));
  await page.goto(server + "/live/demo");
  await page.waitForSelector("#recordings li", { timeout: 20000 });
  report.listed = await page.locator("#recordings li").allInnerTexts();
  await page.locator("#recordings button").last().click();
  // The recording begins at its own time zero, and is played to where it can be seen that it moves.
  const played = (state) => page.waitForFunction((state) => {
    const video = document.getElementById("video");
    const moves = video.currentTime > 1 && video.getVideoPlaybackQuality().totalVideoFrames > 20;
    return moves && document.getElementById("state").textContent === state && { time: video.currentTime, width: video.videoWidth, duration: video.duration };
  }, state, { timeout: 30000 }).then((handle) => handle.jsonValue());
  report.recorded = await played("recorded");
  await page.screenshot({ path: screenshot });
  await page.setViewportSize({ width: 390, height: 1000 });
  report.scrolls = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  await page.screenshot({ path: screenshot.replace(".png", "-phone.png"), fullPage: true });
  await page.click("#edge");
  report.live = await played("live");
} catch (error) {
  report.errors.push(String(error));
} finally {
  await close();
}
console.log(JSON.stringify(report));
