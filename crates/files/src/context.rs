//! Says what was being done in front of an error of the file system; its kind stays.

use std::io;

pub(crate) trait Context<T> {
    /// Puts `doing` and a colon in front of the error's text.
    fn doing(self, doing: impl FnOnce() -> String) -> io::Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> io::Result<T> {
        self.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", doing())))
    }
}
