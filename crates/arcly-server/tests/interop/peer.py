"""aiortc as a peer of WHIP and WHEP.

Arguments: what it does (`publish`, `play`, `say` over a data channel, `hear` from one), the address that the offer is sent to, and a
codec of pictures (`publish`), or what it wants before it reports (`play`: pictures and sounds; `hear`: messages).

A report is one line on stderr, a word and JSON. It goes on until SIGTERM, leaves by DELETE, and reports its status when the server has
closed the session. It does not close it itself.
"""

import array
import asyncio
import contextlib
import json
import logging
import math
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from fractions import Fraction

import aioice.ice
import av
from aiortc import (
    AudioStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError

WIDTH, HEIGHT = 320, 180
RATE, TONE = 48_000, 440
# For anything that the server answers, on a machine that is busy with everything else.
PATIENCE = 60

# Loopback, which aioice leaves out, and nothing else: there may be no other network.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


def report(word, **what):
    print(word, json.dumps(what), file=sys.stderr, flush=True)


class Bars(VideoStreamTrack):
    """Grey bars that move, thirty pictures a second; 128 in a row differ."""

    shown = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane in frame.planes:
            row = bytes((x + 3 * self.shown) % 128 + 64 for x in range(plane.line_size))
            plane.update((row if plane.width == WIDTH else b"\x80" * plane.line_size) * plane.height)
        frame.pts, frame.time_base = pts, time_base
        self.shown += 1
        return frame


class Tone(AudioStreamTrack):
    """A sine of half the full scale, in frames of 20 ms."""

    samples = 0

    async def recv(self):
        now = time.monotonic()
        self.began = getattr(self, "began", now)
        await asyncio.sleep(max(0, self.began + self.samples / RATE - now))
        count = RATE // 50
        wave = (math.sin(2 * math.pi * TONE * (self.samples + n) / RATE) for n in range(count))
        frame = av.AudioFrame(format="s16", layout="mono", samples=count)
        frame.planes[0].update(array.array("h", (int(16_384 * sample) for sample in wave)).tobytes())
        frame.pts, frame.time_base, frame.sample_rate = self.samples, Fraction(1, RATE), RATE
        self.samples += count
        return frame


def message(n):
    """The same as in the test: the universal label that KLV begins with, a number, and sometimes more than fits into one datagram."""
    head = b"\x06\x0e\x2b\x34 key " + n.to_bytes(2, "big")
    return head.ljust(20 + n * 397 % 3_000, bytes([n & 0xFF]))


async def ask(method, url, body=None):
    def exchange():
        request = urllib.request.Request(url, body, {"Content-Type": "application/sdp"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    return await asyncio.to_thread(exchange)


async def agree(pc, url):
    """Offer and answer; returns the session."""
    await pc.setLocalDescription(await pc.createOffer())
    status, fields, body = await ask("POST", url, pc.localDescription.sdp.encode())
    if status != 201:
        raise RuntimeError(f"{url}: {status} {body}")
    await pc.setRemoteDescription(RTCSessionDescription(body, "answer"))
    return urllib.parse.urljoin(url, fields["Location"])


def publish(pc, codec):
    pc.addTrack(Bars())
    pc.addTrack(Tone())
    known = RTCRtpReceiver.getCapabilities("video").codecs
    for transceiver in pc.getTransceivers():
        transceiver.direction = "sendonly"
        if transceiver.kind == "video":
            transceiver.setCodecPreferences([one for one in known if one.mimeType.endswith(codec)])


def play(pc, pictures, sounds):
    seen = {"pictures": 0, "sizes": [], "sounds": 0, "rms": 0.0}
    squares = samples = 0
    enough = asyncio.Event()

    async def frames(track):
        with contextlib.suppress(MediaStreamError):
            while True:
                yield await track.recv()

    async def watch(track):
        nonlocal squares, samples
        async for frame in frames(track):
            if track.kind == "video":
                seen["pictures"] += 1
                size = [frame.width, frame.height]
                seen["sizes"] += [size] if size not in seen["sizes"] else []
            else:
                seen["sounds"] += 1
                wave = array.array("h", bytes(frame.planes[0]))
                squares += sum(sample * sample for sample in wave)
                samples += len(wave)
                seen["rms"] = math.sqrt(squares / samples) / 32_768
            if seen["pictures"] >= pictures and seen["sounds"] >= sounds and not enough.is_set():
                report("played", **seen)
                enough.set()

    for kind in ("video", "audio"):
        pc.addTransceiver(kind, direction="recvonly")
    watching = set()
    pc.on("track", lambda track: watching.add(asyncio.ensure_future(watch(track))))


def say(pc):
    channel = pc.createDataChannel("klv")
    saying = set()

    async def go_on():
        n = 0
        while channel.readyState == "open":
            channel.send(message(n))
            n += 1
            await asyncio.sleep(0.1)

    channel.on("open", lambda: saying.add(asyncio.ensure_future(go_on())))


def hear(pc, count):
    messages = []
    # Only so that the offer has them.
    pc.createDataChannel("")

    @pc.on("datachannel")
    def opened(channel):
        @channel.on("message")
        def came(data):
            messages.append(data.hex())
            if len(messages) == count:
                report("heard", label=channel.label, protocol=channel.protocol, messages=messages)


async def main(what, url, *more):
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    # No server of STUN is asked.
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    counts = [int(word) for word in more if word.isdigit()]
    {"publish": publish, "play": play, "say": say, "hear": hear}[what](pc, *(counts or more))
    session = await agree(pc, url)
    await leave.wait()
    closed = asyncio.Event()
    pc.on("connectionstatechange", lambda: closed.set() if pc.connectionState == "closed" else None)
    status, _, _ = await ask("DELETE", session)
    await asyncio.wait_for(closed.wait(), PATIENCE)
    report("left", status=status)


logging.basicConfig(level=logging.WARNING)
asyncio.run(main(*sys.argv[1:]))
