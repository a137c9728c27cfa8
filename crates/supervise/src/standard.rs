//! Which standard streams were open when this process started.
//!
//! Before `main`, Rust's runtime opens /dev/null in place of closed streams: writes to it are lost
//! without an error. So this checks earlier.
#![expect(
    unsafe_code,
    reason = "only the linker's list of first functions runs before the runtime"
)]

use std::sync::atomic::{AtomicU8, Ordering};

/// A standard stream, which every process has unless its parent closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StandardStream {
    /// Descriptor 0.
    Input = 0,
    /// Descriptor 1.
    Output = 1,
    /// Descriptor 2.
    Error = 2,
}

/// A bit for each stream that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Whether the stream was closed when this process began.
pub fn was_closed(stream: StandardStream) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << stream as u8) != 0
}

#[used]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static FIRST: extern "C" fn() = look;

extern "C" fn look() {
    for stream in 0..3 {
        // SAFETY: it asks for the flags of a plain number, open or not.
        let is_closed = unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1;
        if is_closed {
            CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
        }
    }
}
