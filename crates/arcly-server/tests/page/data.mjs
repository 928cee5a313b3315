// Data channels in Chromium: what a stream has of data is read by WHEP, and what a page says is published by WHIP and read back.
// Arguments: the server's address, the stream with KLV, the stream to publish, messages to wait for, the folder of node_modules, Chromium.
import { launch } from "../../../arcly-testkit/assets/chromium.mjs";

const [server, stream, own, count, modules, executablePath] = process.argv.slice(2);
const { browser, close } = await launch(modules, executablePath, { width: 600, height: 400 });
const report = { errors: [] };
// For anything to happen on a machine that is busy with everything else.
const timeout = 60000;

try {
  const page = await browser.newPage();
  page.setDefaultTimeout(timeout);
  page.on("pageerror", (error) => report.errors.push(String(error)));
  await page.goto(server + "/");
  await page.evaluate(() => {
    window.agree = async (pc, path) => {
      await pc.setLocalDescription(await pc.createOffer());
      const headers = { "content-type": "application/sdp" };
      const answer = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
      await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    };
    // A viewer of that stream, and what it is told, in hexadecimal.
    window.view = async (path, kinds) => {
      const pc = new RTCPeerConnection();
      const told = { pc, channels: [], messages: [] };
      for (const kind of kinds) pc.addTransceiver(kind, { direction: "recvonly" });
      // Only so that the offer has them.
      pc.createDataChannel("");
      pc.ondatachannel = ({ channel }) => {
        const { label, protocol, ordered, maxPacketLifeTime } = channel;
        told.channels.push({ label, protocol, ordered, maxPacketLifeTime });
        channel.binaryType = "arraybuffer";
        channel.onmessage = ({ data }) => told.messages.push(Array.from(new Uint8Array(data), (byte) => byte.toString(16).padStart(2, "0")).join(""));
      };
      await agree(pc, path);
      return told;
    };
  });

  await page.evaluate(async (path) => { window.told = await view(path, ["video"]); }, `/${stream}/whep`);
  await page.waitForFunction((count) => told.messages.length >= count, Number(count));
  await page.waitForFunction(async () => [...(await told.pc.getStats()).values()].some(({ kind, framesDecoded }) => kind === "video" && framesDecoded > 10));
  report.played = await page.evaluate(() => ({ channels: told.channels, messages: told.messages }));

  // And the other way round.
  await page.evaluate(async (path) => {
    const pc = new RTCPeerConnection();
    window.mouth = pc.createDataChannel("telemetry", { protocol: "klv" });
    await agree(pc, path);
    await new Promise((open) => { mouth.onopen = open; });
    mouth.send(new Uint8Array([0]));
    window.publisher = pc;
  }, `/${own}/whip`);
  await page.waitForFunction(async (own) => (await (await fetch("/api/v1/streams")).json()).items.some(({ path, tracks }) => path === own && tracks.length > 0), own);
  const listed = await page.evaluate(async () => (await fetch("/api/v1/streams")).json());
  report.tracks = listed.items.find(({ path }) => path === own).tracks;
  await page.evaluate(async (path) => { window.heard = await view(path, []); }, `/${own}/whep`);
  await page.waitForFunction(() => heard.channels.length > 0);
  await page.evaluate(async () => {
    for (let n = 1; n <= 50; n += 1) {
      mouth.send(new Uint8Array([n, n]));
      await new Promise((later) => setTimeout(later, 20));
    }
  });
  await page.waitForFunction(() => heard.messages.length >= 50);
  report.heard = await page.evaluate(() => ({ channels: heard.channels, messages: heard.messages }));
} catch (error) {
  report.errors.push(String(error));
} finally {
  await close();
}
console.log(JSON.stringify(report));
