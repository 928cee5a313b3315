use bytes::{BufMut, Bytes, BytesMut};

/// `0xBEDE`: elements with one byte of header.
const ONE_BYTE: u16 = 0xBEDE;
/// `0x100` and four bits for the application: elements with two bytes of header.
const TWO_BYTE: u16 = 0x1000;
/// Identifier that ends a list of one-byte elements.
const STOP: u8 = 15;

/// A header extension (RFC 3550 §5.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// "Defined by profile": which form the data has.
    pub profile: u16,
    /// A whole number of 32-bit words.
    pub data: Bytes,
}

impl Extension {
    /// An extension of elements: one-byte headers where they can say it, two-byte headers otherwise (RFC 8285). `None` when
    /// an identifier is 0 or an element is longer than 255 bytes.
    #[must_use]
    pub fn of(elements: &[(u8, &[u8])]) -> Option<Self> {
        let one_byte = elements.iter().all(|(id, value)| *id < STOP && (1..=16).contains(&value.len()));
        let mut data = BytesMut::new();
        for (id, value) in elements {
            let len = u8::try_from(value.len()).ok().filter(|_| *id != 0)?;
            if one_byte {
                data.put_u8(id << 4 | len.saturating_sub(1));
            } else {
                data.put_slice(&[*id, len]);
            }
            data.put_slice(value);
        }
        data.put_bytes(0, data.len().next_multiple_of(4).saturating_sub(data.len()));
        Some(Self { profile: if one_byte { ONE_BYTE } else { TWO_BYTE }, data: data.freeze() })
    }

    /// Its elements; none when it has another form.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        let form = match self.profile {
            ONE_BYTE => Form::OneByte,
            profile if profile & 0xFFF0 == TWO_BYTE => Form::TwoByte,
            _ => Form::Other,
        };
        Elements { data: if form == Form::Other { &[] } else { &self.data }, form }
    }

    /// The first element of that identifier.
    #[must_use]
    pub fn get(&self, id: u8) -> Option<&[u8]> {
        self.elements().find(|(found, _)| *found == id).map(|(_, value)| value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
    Other,
}

/// Iterates over extension elements; ends before one that runs over the end.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    data: &'a [u8],
    form: Form,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // Zero bytes are padding, before any element and at the end.
        while let Some((0, rest)) = self.data.split_first() {
            self.data = rest;
        }
        let (first, rest) = self.data.split_first()?;
        let (id, len, rest) = if self.form == Form::OneByte {
            (first >> 4, usize::from(first & 15).saturating_add(1), rest)
        } else {
            let (len, rest) = rest.split_first()?;
            (*first, usize::from(*len), rest)
        };
        if self.form == Form::OneByte && id == STOP {
            self.data = &[];
            return None;
        }
        let (value, rest) = rest.split_at_checked(len)?;
        self.data = rest;
        Some((id, value))
    }
}
