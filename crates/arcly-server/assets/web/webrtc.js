// What the player and the page that publishes share: sessions of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep), from the offer
// to their end, and how figures are shown.
"use strict";

// How long media may take to find their way once the server has answered, and once they have lost it.
const RTC_CONNECT_MS = 8000;
const RTC_LOST_MS = 12000;
// How long the server may take to hear that somebody leaves.
const RTC_LEAVE_MS = 1000;

// An answer that is none; the message is for people.
class RtcRefused extends Error {
  constructor(status, detail) {
    super(detail || "the server answered with " + status);
    this.status = status;
  }

  static async of(answer) {
    const problem = await answer.json().catch(() => ({}));
    return new RtcRefused(answer.status, problem.detail);
  }
}

class RtcSession {
  static iceServers = [];

  static isSupported() {
    return typeof RTCPeerConnection === "function" && "addTransceiver" in RTCPeerConnection.prototype;
  }

  // `handlers.connected()` is called once media can flow; `handlers.over({ text, byServer, again })` at most once, and not after
  // `close`: `again` says that another attempt has better prospects than this one had.
  constructor(endpoint, handlers, connectMs = RTC_CONNECT_MS) {
    this.endpoint = new URL(endpoint, location.href).href;
    this.handlers = handlers;
    this.connectMs = connectMs;
    this.helped = RtcSession.iceServers.length > 0;
    this.pc = new RTCPeerConnection({ iceServers: RtcSession.iceServers, bundlePolicy: "max-bundle" });
    this.leaving = new AbortController();
    this.isOver = false;
    this.isConnected = false;
    this.resource = null;
    this.before = new Map();
  }

  // Offers what has been added to `pc`. Throws `RtcRefused`, or what `fetch` does. `change` edits descriptions.
  async open(change = (sdp) => sdp) {
    const { pc, leaving } = this;
    const offer = await pc.createOffer();
    await pc.setLocalDescription({ type: "offer", sdp: change(offer.sdp) });
    // Candidates are neither waited for nor sent: the server is a lite agent (RFC 8445 section 2.5), which answers checks
    // wherever they come from.
    this.postedAt = performance.now();
    const answer = await fetch(this.endpoint, {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: pc.localDescription.sdp,
      signal: leaving.signal,
    });
    if (answer.status !== 201) throw await RtcRefused.of(answer);
    const resource = answer.headers.get("location");
    if (resource) this.resource = new URL(resource, this.endpoint).href;
    RtcSession.iceServers = iceServersOf(answer.headers.get("link") || "");
    this.answer = change(await answer.text());
    // Somebody may have left meanwhile.
    if (this.isOver) return this.leave();
    await pc.setRemoteDescription({ type: "answer", sdp: this.answer });
    this.limit(this.connectMs, { text: "no way to the server's media port was found", again: !this.helped && RtcSession.iceServers.length > 0 });
    pc.addEventListener("connectionstatechange", () => this.check());
    const [transceiver] = pc.getTransceivers();
    this.dtls = transceiver && (transceiver.sender.transport || transceiver.receiver.transport);
    if (this.dtls) this.dtls.addEventListener("statechange", () => this.check());
    this.check();
  }

  check() {
    if (this.isOver) return;
    const state = this.pc.connectionState;
    // The server's good-bye.
    if (this.dtls && this.dtls.state === "closed") return this.end({ text: "the server has ended the session", byServer: true });
    if (state === "connected") {
      clearTimeout(this.timer);
      if (this.isConnected) return;
      this.isConnected = true;
      this.handlers.connected();
    } else if (this.isConnected && (state === "disconnected" || state === "failed")) {
      this.restart();
    } else if (state === "failed" || state === "closed") {
      this.end({ text: "the connection could not be made", again: !this.helped && RtcSession.iceServers.length > 0 });
    }
  }

  // An ICE restart (RFC 9725 section 4.3.3): the way for whoever has changed networks to go on as they were.
  async restart() {
    if (this.restarting || this.isOver || !this.resource) return;
    this.restarting = true;
    this.limit(RTC_LOST_MS, { text: "the connection was lost" });
    try {
      const { pc } = this;
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const answer = await fetch(this.resource, {
        method: "PATCH",
        headers: { "content-type": "application/trickle-ice-sdpfrag", "if-match": "*" },
        body: fragmentOf(pc.localDescription.sdp),
        signal: this.leaving.signal,
      });
      if (!answer.ok) throw await RtcRefused.of(answer);
      this.answer = withFragment(this.answer, await answer.text());
      await pc.setRemoteDescription({ type: "answer", sdp: this.answer });
      // The way may have come back by itself meanwhile.
      this.check();
    } catch (error) {
      const isGone = error.status === 404;
      this.end({ text: isGone ? "the server has ended the session" : "the connection was lost", byServer: isGone });
    } finally {
      this.restarting = false;
    }
  }

  limit(ms, why) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.end(why), ms);
  }

  end(why) {
    if (this.isOver) return;
    // What the server has ended it knows to be over.
    if (why.byServer) this.resource = null;
    this.close();
    this.handlers.over(why);
  }

  // Ends it, and tells the server so, also when the page is being left.
  close() {
    if (this.isOver) return;
    this.isOver = true;
    clearTimeout(this.timer);
    this.leaving.abort();
    // By the connection's own good-bye the server would end the session before it is asked to.
    const late = new Promise((done) => setTimeout(done, RTC_LEAVE_MS));
    Promise.race([this.leave(), late]).then(() => this.pc.close());
  }

  async leave() {
    const { resource } = this;
    this.resource = null;
    if (resource) await fetch(resource, { method: "DELETE", keepalive: true }).catch(() => {});
  }

  // The statistics by what they are of: `inbound.video`, `outbound.audio`, `remote.video`, `source.audio`, and the `path`.
  async statistics() {
    const all = await this.pc.getStats();
    const found = { inbound: {}, outbound: {}, remote: {}, source: {}, path: {} };
    const kinds = { "inbound-rtp": found.inbound, "outbound-rtp": found.outbound, "remote-inbound-rtp": found.remote, "media-source": found.source };
    for (const one of all.values()) {
      if (one.type in kinds) {
        const of = kinds[one.type];
        const named = { ...one, codec: (all.get(one.codecId)?.mimeType || "").split("/").pop() };
        of[one.kind] = of[one.kind] && one.rid ? together(of[one.kind], named) : named;
      }
      if (one.type === "candidate-pair" && one.nominated && one.state === "succeeded") {
        found.path = { ...one, protocol: all.get(one.localCandidateId)?.protocol };
      }
    }
    return found;
  }

  // By how much a number has grown since it was last asked about, and in how many seconds.
  growth(name, value = 0) {
    const now = performance.now();
    const [then, last] = this.before.get(name) || [now, value];
    this.before.set(name, [now, value]);
    return { by: value - last, seconds: (now - then) / 1000 };
  }

  // The same, a second.
  rate(name, value) {
    const { by, seconds } = this.growth(name, value);
    return seconds > 0 ? Math.max(0, by / seconds) : 0;
  }
}

// What is sent of one picture in several sizes: as the largest, with the bytes of all, which are in `layers`, the largest last.
function together(one, other) {
  const layers = [...(one.layers || [one]), other].sort((a, b) => (a.frameWidth || 0) - (b.frameWidth || 0));
  return { ...layers.at(-1), layers, bytesSent: layers.reduce((sum, { bytesSent }) => sum + (bytesSent || 0), 0) };
}

// `Link: <turn:…>; rel="ice-server"; username="…"; credential="…"` (RFC 9725 section 4.6).
function iceServersOf(link) {
  const servers = [];
  for (const [, urls, rest] of link.matchAll(/<([^>]+)>((?:\s*;\s*[\w-]+="(?:[^"\\]|\\.)*")*)/g)) {
    const of = Object.fromEntries([...rest.matchAll(/([\w-]+)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [name, value.replace(/\\(.)/g, "$1")]));
    if (of.rel === "ice-server") servers.push({ urls, username: of.username, credential: of.credential });
  }
  return servers;
}

// What of a description is about ICE (RFC 8840 section 9).
function fragmentOf(sdp) {
  const lines = sdp.split("\r\n");
  const first = (start) => lines.find((line) => line.startsWith(start));
  const about = ["a=group:BUNDLE", "a=ice-ufrag:", "a=ice-pwd:", "m=", "a=mid:"].map(first);
  return about.filter(Boolean).map((line) => line + "\r\n").join("");
}

// An answer with the credentials and candidates of a fragment in the place of its own.
function withFragment(sdp, fragment) {
  const fresh = fragment.split("\r\n");
  const of = (start) => fresh.filter((line) => line.startsWith(start));
  const isCandidate = (line) => line.startsWith("a=candidate:") || line.startsWith("a=end-of-candidates");
  const lines = [];
  let placed = false;
  for (const line of sdp.split("\r\n")) {
    const start = ["a=ice-ufrag:", "a=ice-pwd:"].find((name) => line.startsWith(name));
    if (start) {
      lines.push(of(start)[0] || line);
    } else if (!isCandidate(line)) {
      lines.push(line);
    } else if (!placed) {
      placed = true;
      lines.push(...fresh.filter(isCandidate));
    }
  }
  return lines.join("\r\n");
}

// Opus is one channel for browsers unless its parameters say otherwise.
function withStereo(sdp) {
  const opus = sdp.match(/^a=rtpmap:(\d+) opus\//im);
  return opus ? sdp.replace(new RegExp("^(a=fmtp:" + opus[1] + " (?!.*stereo=).*)$", "m"), "$1;stereo=1;sprop-stereo=1") : sdp;
}

// Rows of a list of terms, as [term, text].
function showRows(list, rows) {
  list.replaceChildren(...rows.flatMap(([term, text]) => {
    const dt = document.createElement("dt");
    dt.textContent = term;
    const dd = document.createElement("dd");
    dd.textContent = text;
    return [dt, dd];
  }));
}

// 950 kbit/s, 2.51 Mbit/s
function bits(bps) {
  return bps < 1e6 ? Math.round(bps / 1e3) + " kbit/s" : (bps / 1e6).toFixed(2) + " Mbit/s";
}

// 1:02:03, 2:03
function clock(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const two = (n) => String(n).padStart(2, "0");
  return h ? h + ":" + two(m) + ":" + two(s) : m + ":" + two(s);
}

// Seconds to wait before the next attempt: longer from one to the next, and not the same for everybody.
function backOff(attempt, most) {
  return Math.min(most, 2 ** Math.min(attempt, 6)) * (0.8 + 0.4 * Math.random());
}
