// Chromium publishes its fake camera and microphone by WHIP, and plays by WHEP: node browser.mjs SERVER MODULES CHROMIUM [publish].
// Prints a line of JSON once pictures of what is played have been decoded, and sound has arrived.
import { launch } from "../../arcly-testkit/assets/chromium.mjs";

const [server, modules, executablePath, publish] = process.argv.slice(2);
const devices = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const { browser, close } = await launch(modules, executablePath, undefined, devices);
const page = await browser.newPage();
await page.goto(server);
const report = await page.evaluate(async (publish) => {
  const post = async (pc, url) => {
    await pc.setLocalDescription(await pc.createOffer());
    const headers = { "content-type": "application/sdp" };
    const answer = await fetch(url, { method: "POST", headers, body: pc.localDescription.sdp });
    if (answer.status !== 201) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    return answer.headers.get("location");
  };
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const out = {};
  if (publish) {
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 }, audio: true });
    const sender = new RTCPeerConnection();
    for (const track of media.getTracks()) sender.addTransceiver(track, { direction: "sendonly" });
    out.whip = await post(sender, "/live/cam/whip");
  }
  const viewer = new RTCPeerConnection();
  const video = document.createElement("video");
  video.autoplay = video.muted = true;
  const stream = new MediaStream();
  viewer.ontrack = (event) => { stream.addTrack(event.track); video.srcObject = stream; };
  viewer.addTransceiver("video", { direction: "recvonly" });
  viewer.addTransceiver("audio", { direction: "recvonly" });
  for (;;) {
    try {
      out.whep = await post(viewer, "/live/cam/whep");
      break;
    } catch (error) {
      if (!String(error).includes("404")) throw error;
      await sleep(100);
    }
  }
  const asked = performance.now();
  for (;;) {
    const stats = [...(await viewer.getStats()).values()];
    const inbound = (kind) => stats.find((one) => one.type === "inbound-rtp" && one.kind === kind) ?? {};
    const [pictures, sound] = [inbound("video"), inbound("audio")];
    if (pictures.framesDecoded > 0) out.first ??= performance.now() - asked;
    if (pictures.framesDecoded >= 60 && sound.packetsReceived >= 100) {
      const codec = (of) => stats.find((one) => one.id === of.codecId)?.mimeType;
      const { framesDecoded: decoded, packetsLost: lost, freezeCount: freezes, frameWidth: width } = pictures;
      return { ...out, decoded, lost, freezes, width, sounds: sound.packetsReceived, codecs: [codec(pictures), codec(sound)] };
    }
    await sleep(100);
  }
}, publish === "publish");
console.log(JSON.stringify(report));
await close();
