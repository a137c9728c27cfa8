//! Formats that QEMU would recognise and that no machine may use: the guest would see the
//! container, not the disk.
//!
//! LUKS is not among them: a guest may have encrypted its whole disk.

use jumpstarter_driver_core::prelude::*;

use super::{Header, has, unusable};

pub(super) fn read(start: &[u8], end: &[u8]) -> Option<Result<Header>> {
    let format = if has(start, 0, b"QED\0") {
        "qed"
    } else if has(start, 0, b"WithoutFreeSpace") || has(start, 0, b"WithouFreSpacExt") {
        "parallels"
    } else if has(start, 0, b"Bochs Virtual HD Image") {
        "bochs"
    } else if has(start, 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop") {
        "cloop"
    } else if end.len() == super::END && has(end, 0, b"koly\0\0\0\x04") {
        "dmg"
    } else {
        return None;
    };
    Some(Err(unusable(format, "is of a format that machines are not given")))
}
