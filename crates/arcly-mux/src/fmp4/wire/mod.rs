//! Boxes as bytes: sizes, headers, and the tables within. Pure, without media.

mod put;
mod read;

pub(crate) use put::{HEADER_LEN, put_box, put_full_box, put_text, put_zeros};
pub(crate) use read::{BoxHeader, boxes, closed, find, full_box, require};
