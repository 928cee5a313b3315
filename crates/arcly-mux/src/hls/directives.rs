//! Delivery directives: what a client asks of a playlist in its query (6.2.5).

use crate::live::View;

/// How many segments ahead of the last one a client may wait for.
const MAX_SEGMENTS_AHEAD: u64 = 2;
/// The time that parts are ahead of the last one at most (6.2.5.2), in seconds, or as many parts where that is more.
const MAX_PARTS_AHEAD: u64 = 3;

/// What a query asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`: answer once this segment is there.
    pub msn: Option<u64>,
    /// `_HLS_part`: answer once this part of it is there.
    pub part: Option<u64>,
    /// `_HLS_skip`: a delta update is welcome.
    pub skip: bool,
}

/// Why directives cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectiveError {
    /// A value is not a number, or stands twice.
    #[error("_HLS_msn and _HLS_part are whole numbers, given once")]
    Malformed,
    /// A part of no segment.
    #[error("_HLS_part needs _HLS_msn")]
    PartWithoutSegment,
    /// Too far in the future.
    #[error("that is further ahead of the playlist than a client may wait for")]
    TooFarAhead,
}

impl Directives {
    /// The directives in a query.
    ///
    /// # Errors
    /// A value is malformed, or there is a part without a segment.
    pub fn from_query(query: Option<&str>) -> Result<Self, DirectiveError> {
        let mut found = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || match value.parse::<u64>() {
                Ok(number) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
                _ => Err(DirectiveError::Malformed),
            };
            let twice = match name {
                "_HLS_msn" => found.msn.replace(number()?).is_some(),
                "_HLS_part" => found.part.replace(number()?).is_some(),
                "_HLS_skip" => {
                    found.skip = matches!(value, "YES" | "v2");
                    false
                }
                _ => false,
            };
            if twice {
                return Err(DirectiveError::Malformed);
            }
        }
        match found {
            Self { msn: None, part: Some(_), .. } => Err(DirectiveError::PartWithoutSegment),
            _ => Ok(found),
        }
    }

    /// True when a playlist of this view answers what is asked.
    ///
    /// # Errors
    /// It never will, or not soon.
    pub fn is_met(&self, view: &View) -> Result<bool, DirectiveError> {
        let Some(msn) = self.msn else { return Ok(!view.listed().is_empty() || view.ended) };
        if view.ended || view.has(msn, self.part) {
            return Ok(true);
        }
        let (last, parts) =
            view.last_part().map_or((view.next_msn, 0), |(msn, part)| (msn, part.saturating_add(1)));
        let target = view.plan.part_target.to_millis().max(1).unsigned_abs();
        let ahead = MAX_PARTS_AHEAD.saturating_mul(1_000).div_ceil(target).max(MAX_PARTS_AHEAD);
        let allowed = if last == msn { parts.saturating_add(ahead) } else { ahead };
        let too_far =
            msn > last.saturating_add(MAX_SEGMENTS_AHEAD) || self.part.is_some_and(|part| part > allowed);
        if too_far {
            return Err(DirectiveError::TooFarAhead);
        }
        Ok(false)
    }

    /// The parts of a query that are the client's own: all but directives and the container. A client is the same when
    /// these are.
    pub fn others(query: &str) -> impl Iterator<Item = &str> {
        let ours =
            |pair: &&str| pair.starts_with("_HLS_") || pair.starts_with("container=") || pair.is_empty();
        query.split('&').filter(move |pair| !ours(pair))
    }

    /// The query without directives and what else is not the client's own, for the URIs of a playlist.
    #[must_use]
    pub fn strip(query: &str) -> String {
        let is_safe =
            |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '`' | '{' | '}');
        // First, so that nothing becomes a directive by what is left out of it.
        let safe: String = query.chars().filter(is_safe).collect();
        let others: Vec<&str> = Self::others(&safe).collect();
        others.join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let of = |msn, part, skip| Ok(Directives { msn, part, skip });
        for (query, expect) in [
            (None, of(None, None, false)),
            (Some("token=a"), of(None, None, false)),
            (Some("_HLS_msn=5"), of(Some(5), None, false)),
            (Some("token=a&_HLS_msn=5&_HLS_part=0&_HLS_skip=YES"), of(Some(5), Some(0), true)),
            (Some("_HLS_msn=5&_HLS_skip=v2"), of(Some(5), None, true)),
            (Some("_HLS_part=1"), Err(DirectiveError::PartWithoutSegment)),
            (Some("_HLS_msn=-1"), Err(DirectiveError::Malformed)),
            (Some("_HLS_msn=+1"), Err(DirectiveError::Malformed)),
            (Some("_HLS_msn="), Err(DirectiveError::Malformed)),
            (Some("_HLS_msn=18446744073709551616"), Err(DirectiveError::Malformed)),
            (Some("_HLS_msn=1&_HLS_msn=1"), Err(DirectiveError::Malformed)),
        ] {
            assert_eq!(Directives::from_query(query), expect, "{query:?}");
        }
        assert_eq!(Directives::strip("_HLS_msn=1&token=x&_HLS_part=2&a=b"), "token=x&a=b");
        assert_eq!(Directives::strip("container=ts&token=x"), "token=x");
        assert_eq!(Directives::strip("token=x\"\n#EXT"), "token=x#EXT");
    }
}
