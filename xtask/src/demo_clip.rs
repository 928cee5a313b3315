//! `demo-clip`.

use crate::run::{Result, no_more};

pub(crate) fn main(args: &[String]) -> Result {
    no_more(args)
}
