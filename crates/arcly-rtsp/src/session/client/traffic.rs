//! What flows: packets that are received and what is said about them, and what is sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arcly_core::TrackId;
use arcly_core::wire::DecodeResult;
use arcly_rtp::media::{Event, MediaReceiver, MediaReceiverOptions, Numbering};
use arcly_rtp::sdp::Format;
use arcly_rtp::wire::rtcp::{PictureLoss, ReceiverReport, RtcpPacket, sdes};
use bytes::{Bytes, BytesMut};

use super::ClientEvent;
use super::description::{Announced, Described};
use crate::session::REPORT_INTERVAL;
use crate::srtp::Keyring;
use crate::wire::rtp_info::RtpInfo;

/// A server whose sources have all said goodbye may go on with others within this time.
const FAREWELL: Duration = Duration::from_secs(1);

/// A medium's place, and a packet for its sender or receiver.
type Report = (usize, Bytes);

/// What is pulled.
#[derive(Debug)]
pub(super) struct Receiving {
    described: Described,
    receiver: MediaReceiver,
    ssrc: u32,
    cname: String,
    /// When the last packet came, or media was to begin.
    last: Instant,
    /// When the last packet of each medium came, and the media that have said goodbye.
    come: Vec<Option<Instant>>,
    gone: Vec<bool>,
    report_due: Instant,
    reports: Vec<Report>,
}

fn ssrc_of(random: [u8; 16]) -> u32 {
    let [a, b, c, d, ..] = random;
    u32::from_be_bytes([a, b, c, d])
}

fn cname_of(random: [u8; 16]) -> String {
    let [.., a, b, c, d] = random;
    format!("arcly-{:08x}", u32::from_be_bytes([a, b, c, d]))
}

impl Receiving {
    pub(super) fn new(described: Described, random: [u8; 16], now: Instant) -> Self {
        let count = described.media.len();
        Self {
            described,
            receiver: MediaReceiver::new(Vec::new(), MediaReceiverOptions::default()),
            ssrc: ssrc_of(random),
            cname: cname_of(random),
            last: now,
            come: vec![None; count],
            gone: vec![false; count],
            report_due: now,
            reports: Vec::new(),
        }
    }

    /// Packets may come from now on.
    pub(super) fn start(&mut self, now: Instant, ordered: bool) {
        let options =
            if ordered { MediaReceiverOptions::ordered() } else { MediaReceiverOptions::from_the_start() };
        self.receiver = MediaReceiver::new(self.described.lanes(), options);
        self.last = now;
        self.report_due = now.checked_add(REPORT_INTERVAL).unwrap_or(now);
    }

    /// The server has begun, and says with which packets.
    pub(super) fn started(&mut self, now: Instant, info: &RtpInfo) {
        self.last = now;
        for stream in &info.streams {
            let medium = self.described.medium_of(&stream.url);
            if let (Some(medium), Some(timestamp)) = (medium, stream.timestamp) {
                self.receiver.set_common_moment(medium, timestamp);
            }
        }
    }

    /// Takes a packet of a medium.
    pub(super) fn packet(
        &mut self,
        now: Instant,
        medium: usize,
        control: bool,
        payload: &Bytes,
    ) -> DecodeResult<()> {
        if control {
            self.receiver.handle_rtcp(now, medium, payload);
            return Ok(());
        }
        self.last = now;
        if let (Some(come), Some(gone)) = (self.come.get_mut(medium), self.gone.get_mut(medium)) {
            (*come, *gone) = (Some(now), false);
        }
        self.receiver.handle_rtp(now, medium, payload)
    }

    /// True when packets of a medium have come.
    pub(super) fn has_come(&self, medium: usize) -> bool {
        self.come.get(medium).is_some_and(Option::is_some)
    }

    /// True when no packet at all came within that time of PLAY.
    pub(super) fn none_came(&self, now: Instant, patience: Duration) -> bool {
        !self.come.iter().any(Option::is_some) && self.is_silent(now, patience)
    }

    /// True when no packet came for so long, of all media or of one with pictures, which does not pause by itself: a camera's
    /// encoder hangs while its microphone goes on.
    pub(super) fn is_stalled(&self, now: Instant, patience: Duration) -> bool {
        let silent = |at: Instant| now.saturating_duration_since(at) >= patience;
        self.is_silent(now, patience) || self.pictures().any(silent)
    }

    /// When the last packet came of each medium with pictures that goes on.
    fn pictures(&self) -> impl Iterator<Item = Instant> {
        let all = self.described.media.iter().zip(&self.come).zip(&self.gone);
        all.filter_map(|((medium, come), gone)| come.filter(|_| !gone && medium.has_pictures()))
    }

    /// True when no packet came for so long.
    pub(super) fn is_silent(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_duration_since(self.last) >= patience
    }

    /// True when everything has said goodbye and nothing else began.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.all_gone() && self.is_silent(now, FAREWELL)
    }

    fn all_gone(&self) -> bool {
        self.gone.iter().all(|gone| *gone)
    }

    /// When something is due; `first` is how long the first packet may take, while something else is left to try.
    pub(super) fn wake(&self, first: Option<Duration>, stall: Duration) -> Option<Instant> {
        let none = !self.come.iter().any(Option::is_some);
        let oldest = self.pictures().chain([self.last]).min().unwrap_or(self.last);
        let first = first.filter(|_| none).and_then(|first| self.last.checked_add(first));
        let over = self.last.checked_add(FAREWELL).filter(|_| self.all_gone());
        let due = [self.receiver.deadline(), Some(self.report_due), oldest.checked_add(stall), first, over];
        due.into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.receiver.handle_timeout(now);
        if self.report_due > now {
            return;
        }
        self.report_due = now.checked_add(REPORT_INTERVAL).unwrap_or(now);
        for medium in 0..self.described.media.len() {
            let report = self.receiver.report(now, medium, self.ssrc, &self.cname);
            self.reports.extend(report.map(|report| (medium, report)));
        }
    }

    /// Hands out what there is.
    pub(super) fn drain(&mut self, events: &mut VecDeque<ClientEvent>) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                Event::Media(media) => events.push_back(ClientEvent::Media(media)),
                Event::TransportStream { data, .. } => events.push_back(ClientEvent::TransportStream(data)),
                Event::KeyframeNeeded { lane } => self.request_keyframe(lane),
                Event::Goodbye { lane } => {
                    if let Some(gone) = self.gone.get_mut(lane) {
                        *gone = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// Asks for keyframes of everything that has some.
    pub(super) fn request_keyframes(&mut self) {
        (0..self.described.media.len()).for_each(|medium| self.request_keyframe(medium));
    }

    /// PLI, where the server said that it listens to it. Behind a report, as RFC 4585 §3.1 wants it.
    fn request_keyframe(&mut self, medium: usize) {
        let listens = self.described.media.get(medium).is_some_and(|medium| medium.pli);
        let Some(media) = self.receiver.ssrc(medium).filter(|_| listens) else { return };
        let mut out = BytesMut::from(&self.empty_report()[..]);
        RtcpPacket::PictureLoss(PictureLoss { sender: self.ssrc, media }).encode(&mut out);
        self.reports.push((medium, out.freeze()));
    }

    /// What this side calls itself in reports.
    pub(super) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// A report of nothing.
    pub(super) fn empty_report(&self) -> Bytes {
        let mut out = BytesMut::new();
        let report = ReceiverReport { ssrc: self.ssrc, ..ReceiverReport::default() };
        RtcpPacket::ReceiverReport(report).encode(&mut out);
        sdes(self.ssrc, &self.cname).encode(&mut out);
        out.freeze()
    }

    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        core::mem::take(&mut self.reports)
    }

    #[cfg(test)]
    pub(super) fn medium_of(&self, url: &str) -> Option<usize> {
        self.described.medium_of(url)
    }
}

/// What is pushed. Its packets have sender reports between them.
#[derive(Debug)]
pub(super) struct Sending {
    announced: Announced,
    /// What the packets are numbered under.
    key: u64,
}

impl Sending {
    pub(super) const fn new(announced: Announced, key: u64) -> Self {
        Self { announced, key }
    }

    /// The description, with the keys of what is protected.
    pub(super) fn description(&self, keys: Option<&Keyring>) -> String {
        let mut description = self.announced.description.clone();
        for (at, media) in description.media.iter_mut().enumerate() {
            if let Some(message) = keys.zip(self.ssrc(at)).and_then(|(keys, ssrc)| keys.message(at, ssrc)) {
                message.announce(media);
            }
        }
        description.to_string()
    }

    pub(super) fn formats(&self) -> &[(TrackId, Format)] {
        &self.announced.formats
    }

    /// The source that sends a medium's packets.
    pub(super) fn ssrc(&self, medium: usize) -> Option<u32> {
        self.formats().get(medium).map(|(track, _)| Numbering::of(self.key, *track).ssrc)
    }

    /// Whether the track was announced.
    pub(super) fn announces(&self, track: TrackId) -> bool {
        self.formats().iter().any(|(announced, _)| *announced == track)
    }
}
