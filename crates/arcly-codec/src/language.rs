//! Language codes of three letters, as MPEG-TS descriptors and MP4 media headers have them, and RFC 5646 tags, as
//! tracks have them.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO 639-1, ISO 639-2 | code tables | [`to_iso639_2`], [`from_iso639_2`] |
//! | RFC 5646 | 2.2.1 the shortest code is used | the same |
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

/// The code for "undetermined".
pub const UNDETERMINED: [u8; 3] = *b"und";

/// Two letters and the terminological three of each language that has both.
const PAIRS: &[u8] = b"\
aaaar ababk aeave afafr akaka amamh anarg arara asasm avava ayaym azaze babak bebel bgbul bibis bmbam bnben bobod brbre \
bsbos cacat ceche chcha cocos crcre csces cuchu cvchv cycym dadan dedeu dvdiv dzdzo eeewe elell eneng eoepo esspa etest \
eueus fafas ffful fifin fjfij fofao frfra fyfry gagle gdgla glglg gngrn guguj gvglv hahau heheb hihin hohmo hrhrv hthat \
huhun hyhye hzher iaina idind ieile igibo iiiii ikipk ioido isisl itita iuiku jajpn jvjav kakat kgkon kikik kjkua kkkaz \
klkal kmkhm knkan kokor krkau kskas kukur kvkom kwcor kykir lalat lbltz lglug lilim lnlin lolao ltlit lulub lvlav mgmlg \
mhmah mimri mkmkd mlmal mnmon mrmar msmsa mtmlt mymya nanau nbnob ndnde nenep ngndo nlnld nnnno nonor nrnbl nvnav nynya \
ococi ojoji omorm orori ososs papan pipli plpol pspus ptpor quque rmroh rnrun roron rurus rwkin sasan scsrd sdsnd sesme \
sgsag sisin skslk slslv smsmo snsna sosom sqsqi srsrp ssssw stsot susun svswe swswa tatam tetel tgtgk ththa titir tktuk \
tltgl tntsn toton trtur tstso tttat twtwi tytah uguig ukukr ururd uzuzb veven vivie vovol wawln wowol xhxho yiyid yoyor \
zazha zhzho zuzul ";

/// The bibliographic codes that differ, and the terminological ones.
const BIBLIOGRAPHIC: &[u8] = b"\
albsqi armhye baqeus burmya chizho czeces dutnld frefra geokat gerdeu greell iceisl macmkd maomri maymsa perfas rumron \
sloslk tibbod welcym ";

/// The terminological three-letter code of a tag's language; `None` when it has none, or is no language tag.
#[must_use]
pub fn to_iso639_2(tag: &str) -> Option<[u8; 3]> {
    let primary = tag.split('-').next()?.to_ascii_lowercase();
    match *primary.as_bytes() {
        [a, b] => {
            let pair = PAIRS.chunks(6).find(|pair| pair.starts_with(&[a, b]))?;
            pair.get(2..)?.first_chunk().copied()
        }
        [a, b, c] if primary.bytes().all(|letter| letter.is_ascii_lowercase()) => Some([a, b, c]),
        _ => None,
    }
}

/// The tag of a three-letter code, bibliographic or terminological; `None` when it says nothing (`und`) or is no code.
#[must_use]
pub fn from_iso639_2(code: [u8; 3]) -> Option<String> {
    let code = code.map(|letter| letter.to_ascii_lowercase());
    if code == UNDETERMINED || !code.iter().all(u8::is_ascii_lowercase) {
        return None;
    }
    let terminological = BIBLIOGRAPHIC
        .chunks(7)
        .find(|pair| pair.starts_with(&code))
        .and_then(|pair| pair.get(3..)?.first_chunk().copied())
        .unwrap_or(code);
    let short = PAIRS
        .chunks(6)
        .find(|pair| pair.get(2..5) == Some(&terminological[..]))
        .and_then(|pair| pair.get(..2));
    String::from_utf8(short.unwrap_or(&terminological).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_shape_that_they_are_read_with() {
        assert!(PAIRS.chunks(6).all(|pair| pair.len() == 6 && pair.ends_with(b" ")));
        assert!(BIBLIOGRAPHIC.chunks(7).all(|pair| pair.len() == 7 && pair.ends_with(b" ")));
        assert_eq!((PAIRS.len() / 6, BIBLIOGRAPHIC.len() / 7), (183, 20));
    }

    #[test]
    fn case_table() {
        for (tag, code, back) in [
            ("en", "eng", "en"),
            ("de-AT", "deu", "de"),
            ("FR", "fra", "fr"),
            ("gsw", "gsw", "gsw"),
            ("zh-Hant-TW", "zho", "zh"),
        ] {
            let three = to_iso639_2(tag).map(|code| String::from_utf8_lossy(&code).into_owned());
            assert_eq!(three.as_deref(), Some(code), "{tag}");
            assert_eq!(from_iso639_2(code.as_bytes().try_into().expect("three")).as_deref(), Some(back));
        }
        assert_eq!(from_iso639_2(*b"ger").as_deref(), Some("de"), "bibliographic");
        assert_eq!(from_iso639_2(*b"GER").as_deref(), Some("de"));
        assert_eq!(from_iso639_2(*b"und"), None);
        assert_eq!(from_iso639_2([0, 0, 0]), None);
        for tag in ["", "x", "i-klingon", "xx", "deutsch", "é"] {
            assert_eq!(to_iso639_2(tag), None, "{tag}");
        }
    }
}
