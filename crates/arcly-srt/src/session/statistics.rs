//! What a connection counts, with the names that libsrt gives it (`CBytePerfMon`, `docs/API/statistics.md`).

use std::ops::{AddAssign, Sub};

/// Everything: what has been counted since the connection was made, and how it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Milliseconds since the connection was made (`msTimeStamp`).
    pub ms_time_stamp: u64,
    /// Counters; libsrt's `…Total`. Its counters of an interval are the difference of two of these.
    pub totals: Totals,
    /// The moment.
    pub instant: InstantStatistics,
}

macro_rules! totals {
    ($($name:ident = $libsrt:literal, $text:literal;)*) => {
        /// What is counted. The difference of two is what was counted between them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Totals {
            $(#[doc = concat!($text, " (`", $libsrt, "`).")] pub $name: u64,)*
        }

        impl Totals {
            /// Names, as libsrt has them, and values.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($libsrt, self.$name)),*].into_iter()
            }

            /// Names as this crate has them, what each is, with libsrt's name, and values.
            pub fn described(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($text, " (", $libsrt, ")"), self.$name)),*].into_iter()
            }
        }

        impl AddAssign for Totals {
            fn add_assign(&mut self, other: Self) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }

        impl Sub for Totals {
            type Output = Self;

            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

totals! {
    pkt_sent = "pktSentTotal", "Data packets sent, repeated ones among them";
    pkt_recv = "pktRecvTotal", "Data packets received, repeated ones among them";
    pkt_sent_unique = "pktSentUniqueTotal", "Data packets sent for the first time";
    pkt_recv_unique = "pktRecvUniqueTotal", "Data packets that came for the first time, and in time";
    pkt_snd_loss = "pktSndLossTotal", "Packets that the peer has missed";
    pkt_rcv_loss = "pktRcvLossTotal", "Packets that were missed";
    pkt_retrans = "pktRetransTotal", "Packets repeated";
    pkt_rcv_retrans = "pktRcvRetransTotal", "Repeated packets received";
    pkt_sent_ack = "pktSentACKTotal", "Full acknowledgements sent";
    pkt_recv_ack = "pktRecvACKTotal", "Full acknowledgements received";
    pkt_sent_nak = "pktSentNAKTotal", "Loss lists sent";
    pkt_recv_nak = "pktRecvNAKTotal", "Loss lists received";
    us_snd_duration = "usSndDurationTotal", "Microseconds with something to send";
    pkt_snd_drop = "pktSndDropTotal", "Packets that were not sent, or not again, as it was too late";
    pkt_rcv_drop = "pktRcvDropTotal", "Packets that were not handed over, as it was too late";
    pkt_rcv_undecrypt = "pktRcvUndecryptTotal", "Packets that could not be decrypted";
    pkt_snd_filter_extra = "pktSndFilterExtraTotal", "Packets that the filter has added";
    pkt_rcv_filter_extra = "pktRcvFilterExtraTotal", "Packets of the peer's filter";
    pkt_rcv_filter_supply = "pktRcvFilterSupplyTotal", "Packets that the filter has made up for";
    pkt_rcv_filter_loss = "pktRcvFilterLossTotal", "Packets that the filter could not make up for";
    pkt_rcv_belated = "pktRcvBelated", "Packets that came after they had been given up, or a second time";
    byte_sent = "byteSentTotal", "Bytes of the packets sent";
    byte_recv = "byteRecvTotal", "Bytes of the packets received";
    byte_sent_unique = "byteSentUniqueTotal", "Bytes of the packets sent for the first time";
    byte_recv_unique = "byteRecvUniqueTotal", "Bytes of the packets that came for the first time, and in time";
    byte_retrans = "byteRetransTotal", "Bytes of the packets repeated";
    byte_snd_drop = "byteSndDropTotal", "Bytes of the packets that were not sent";
    byte_rcv_undecrypt = "byteRcvUndecryptTotal", "Bytes that could not be decrypted";
    pkt_malformed = "pktMalformed", "Packets that do not decode or are not for this connection; not libsrt's";
}

/// How a connection is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct InstantStatistics {
    /// Microseconds between packets (`usPktSndPeriod`).
    pub us_pkt_snd_period: f64,
    /// Packets that the peer takes (`pktFlowWindow`).
    pub pkt_flow_window: u32,
    /// Packets that congestion control allows (`pktCongestionWindow`).
    pub pkt_congestion_window: u32,
    /// Packets that are not acknowledged (`pktFlightSize`).
    pub pkt_flight_size: u32,
    /// The round trip (`msRTT`).
    pub ms_rtt: f64,
    /// What the path is thought to carry (`mbpsBandwidth`).
    pub mbps_bandwidth: f64,
    /// What comes in (`mbpsRecvRate`, over the last second).
    pub mbps_recv_rate: f64,
    /// The bound on what is sent; -1 for none (`mbpsMaxBW`).
    pub mbps_max_bw: f64,
    /// Bytes of a packet, IP and UDP headers among them (`byteMSS`).
    pub byte_mss: u32,
    /// Packets that wait to be sent or acknowledged (`pktSndBuf`).
    pub pkt_snd_buf: u32,
    /// Their bytes (`byteSndBuf`).
    pub byte_snd_buf: u32,
    /// The age of the oldest (`msSndBuf`).
    pub ms_snd_buf: u32,
    /// The latency of the peer (`msSndTsbPdDelay`).
    pub ms_snd_tsbpd_delay: u32,
    /// Packets that wait to be handed over (`pktRcvBuf`).
    pub pkt_rcv_buf: u32,
    /// Their bytes (`byteRcvBuf`).
    pub byte_rcv_buf: u32,
    /// Packets that there is room for (`byteAvailRcvBuf` in packets).
    pub pkt_avail_rcv_buf: u32,
    /// The latency of this side (`msRcvTsbPdDelay`).
    pub ms_rcv_tsbpd_delay: u32,
    /// How long a missing packet is waited for before it is asked for. libsrt counts packets (`pktReorderTolerance`).
    pub ms_reorder_tolerance: f64,
    /// The greatest number of packets that one came behind its place (`pktReorderDistance`).
    pub pkt_reorder_distance: u32,
    /// How late belated packets were on average (`pktRcvAvgBelatedTime`).
    pub ms_rcv_avg_belated_time: f64,
    /// How far the peer's clock has drifted, positive when it is slow; not libsrt's.
    pub ms_drift: f64,
}

impl InstantStatistics {
    /// Names, as libsrt has them, and values.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("usPktSndPeriod", self.us_pkt_snd_period),
            ("pktFlowWindow", self.pkt_flow_window.into()),
            ("pktCongestionWindow", self.pkt_congestion_window.into()),
            ("pktFlightSize", self.pkt_flight_size.into()),
            ("msRTT", self.ms_rtt),
            ("mbpsBandwidth", self.mbps_bandwidth),
            ("mbpsRecvRate", self.mbps_recv_rate),
            ("mbpsMaxBW", self.mbps_max_bw),
            ("byteMSS", self.byte_mss.into()),
            ("pktSndBuf", self.pkt_snd_buf.into()),
            ("byteSndBuf", self.byte_snd_buf.into()),
            ("msSndBuf", self.ms_snd_buf.into()),
            ("msSndTsbPdDelay", self.ms_snd_tsbpd_delay.into()),
            ("pktRcvBuf", self.pkt_rcv_buf.into()),
            ("byteRcvBuf", self.byte_rcv_buf.into()),
            ("pktAvailRcvBuf", self.pkt_avail_rcv_buf.into()),
            ("msRcvTsbPdDelay", self.ms_rcv_tsbpd_delay.into()),
            ("msReorderTolerance", self.ms_reorder_tolerance),
            ("pktReorderDistance", self.pkt_reorder_distance.into()),
            ("pktRcvAvgBelatedTime", self.ms_rcv_avg_belated_time),
            ("msDrift", self.ms_drift),
        ]
        .into_iter()
    }
}
