use core::str::FromStr;

use super::{
    Attribute, MAX_ATTRIBUTES, MAX_BYTES, MAX_MEDIA, MediaDescription, SdpError, SessionDescription,
};

impl FromStr for SessionDescription {
    type Err = SdpError;

    fn from_str(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES {
            return Err(SdpError::LimitExceeded { what: "sdp_bytes", limit: MAX_BYTES });
        }
        let mut parser = Parser::default();
        for (line, text) in (1..).zip(text.split('\n')) {
            // Some senders end their text with a zero byte.
            let text = text.replace(['\r', '\0'], "");
            let mut rest = text.trim().chars();
            if let (Some(name), Some('=')) = (rest.next(), rest.next()) {
                parser.field(line, name, rest.as_str().trim())?;
            }
        }
        Ok(parser.session)
    }
}

#[derive(Default)]
struct Parser {
    session: SessionDescription,
    attributes: usize,
}

impl Parser {
    fn field(&mut self, line: usize, name: char, value: &str) -> Result<(), SdpError> {
        let text = || value.to_owned();
        match (name, self.session.media.last_mut()) {
            ('m', _) => return self.media(line, value),
            ('a', _) => return self.attribute(value),
            ('i', Some(media)) => media.information = Some(text()),
            ('c', Some(media)) => media.connection = Some(text()),
            ('b', Some(media)) => media.bandwidths.push(text()),
            ('v', None) if value != "0" => return Err(SdpError::Malformed { line, what: "version" }),
            ('o', None) => self.session.origin = text(),
            ('s', None) => self.session.name = text(),
            ('i', None) => self.session.information = Some(text()),
            ('c', None) => self.session.connection = Some(text()),
            ('b', None) => self.session.bandwidths.push(text()),
            ('t', None) => self.session.timing = text(),
            _ => {}
        }
        Ok(())
    }

    fn media(&mut self, line: usize, value: &str) -> Result<(), SdpError> {
        if self.session.media.len() >= MAX_MEDIA {
            return Err(SdpError::LimitExceeded { what: "sdp_media", limit: MAX_MEDIA });
        }
        let malformed = |what| SdpError::Malformed { line, what };
        let mut parts = value.split_whitespace();
        let kind = parts.next().ok_or_else(|| malformed("media without kind"))?;
        let port = parts.next().ok_or_else(|| malformed("media without port"))?;
        // A number of ports may follow.
        let port = port.split('/').next().unwrap_or_default();
        let protocol = parts.next().ok_or_else(|| malformed("media without protocol"))?;
        self.session.media.push(MediaDescription {
            kind: kind.to_owned(),
            port: port.parse().map_err(|_| malformed("port"))?,
            protocol: protocol.to_owned(),
            formats: parts.map(str::to_owned).collect(),
            ..MediaDescription::default()
        });
        Ok(())
    }

    fn attribute(&mut self, value: &str) -> Result<(), SdpError> {
        self.attributes = self.attributes.saturating_add(1);
        if self.attributes > MAX_ATTRIBUTES {
            return Err(SdpError::LimitExceeded { what: "sdp_attributes", limit: MAX_ATTRIBUTES });
        }
        let attribute = match value.split_once(':') {
            Some((name, value)) => Attribute::new(name.trim(), value.trim()),
            None => Attribute::flag(value),
        };
        match self.session.media.last_mut() {
            Some(media) => media.attributes.push(attribute),
            None => self.session.attributes.push(attribute),
        }
        Ok(())
    }
}
