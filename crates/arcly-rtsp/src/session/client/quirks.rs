//! What servers and cameras do against the specification, and how this side gets along with it.
//!
//! | id | what is seen | for example | what is done |
//! |---|---|---|---|
//! | q01 | lines that end in LF alone | | taken |
//! | q02 | an answer without `CSeq`, or with that of the request before | HiSilicon's server (luisiam/homebridge-foscamcamera#6), Tapo C220 (scottlamb/retina#136), C520WS (scottlamb/retina#133) | one request waits at a time, and what comes answers it; unless it is the late answer to one that was given up |
//! | q03 | OPTIONS is refused, or not known | | the rest is asked for all the same, and the session kept by OPTIONS |
//! | q03 | no `Session`, an empty one, or `timeout=0` | | requests go without; a minute is assumed |
//! | q04 | other channels in `Transport` than were asked for, or none | bluenviron/gortsplib#72, #142 | those of the answer are used; else those that were asked for |
//! | q04 | other channels in frames than in `Transport`, or the same for all media | | a packet whose type only one medium has, of which nothing came yet, is taken for it |
//! | q04 | frames before the answer to PLAY | | taken, and handed out |
//! | q05 | GET_PARAMETER or SET_PARAMETER is promised in `Public` and refused | scottlamb/retina#133, #136 | OPTIONS from then on |
//! | q05 | keep-alives are not answered while media flows | | not missed; what counts is media |
//! | q06 | back-channels (ONVIF) that nobody asked for | | media that are `sendonly` are left out where others are not |
//! | q06 | everything is `sendonly` | | taken |
//! | q07 | `Content-Base` with an address that cannot be reached, without scheme, or with two, or empty | scottlamb/moonfire-nvr#356, AlexxIT/go2rtc#208, #1852, bluenviron/mediamtx#825 | its path counts, on the host that this side is connected to |
//! | q07 | control URLs by address where the URL has a name | ZoneMinder/zoneminder#685 | the same |
//! | q07 | relative control URLs behind a URL with a query | | put behind everything, query included, which is not how RFC 3986 resolves them |
//! | q07 | no `a=control` of the session, or none at all | scottlamb/retina#9 | the presentation's URL is used |
//! | q08 | `RTP-Info` that is malformed, or names media by path alone | | what cannot be read is passed over; a time that contradicts when packets came is not believed (`arcly-rtp`) |
//! | q09 | the connection is closed behind a 401 | | another connection brings the answer with its first request |
//! | q12 | `mode="record"` in quotes is not understood | FFmpeg as a server | written without quotes |
//! | q13 | values in `Transport` that cannot be (`server_port=0-0`) | | that parameter counts as not said |
//!
//! Ids are those of tests: `q01_…` next to this module, q09 and q12 in `tests/client.rs`; q13 is `what_servers_answer`, and a nonce that
//! changes with every request is in `challenges_are_answered_once`.
//!
//! Not tolerated: a `Content-Length` that is shorter than the body (the rest is no message: the connection ends, and is made again where
//! its owner wants that) or longer (the set-up runs out of time); servers that count GET_PARAMETER alone and do not say that they know
//! it (Streamedian/html5_rtsp_player#73).
//!
//! What packets do wrong is `arcly-rtp`'s, and what descriptions do is tolerated by [`arcly_rtp::sdp`].
