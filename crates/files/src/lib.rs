//! Files that are replaced completely or not at all, and private folders that are removed with
//! their owner.
//!
//! Every other crate uses these: [`StagedFile`] replaces an old file by a new one, [`RuntimeDir`]
//! is a private folder for sockets and images, no path leaves a [`ConfinedFolder`]. Errors are
//! [`std::io::Error`]s that name the file and the action.

mod attributes;
mod confined;
mod context;
mod destination;
mod names;
mod obstacle;
mod private_file;
mod removal;
mod room;
mod runtime_dir;
mod socket;
mod sparse;
mod staged;
mod sweep;
mod take;
mod target;
mod turn;
mod unnamed;

pub use confined::{ConfinedFile, ConfinedFolder, Entry, EntryKind, InnerPath};
pub use private_file::{save_new, save_private};
pub use removal::finish_removals;
pub use room::{Room, free_room};
pub use runtime_dir::RuntimeDir;
pub use socket::{SocketFile, SocketPlace};
pub use sparse::{discard, write_over, write_sparse, zero};
pub use staged::StagedFile;
pub use take::take_file;
pub use target::{Opened, Target};
pub use turn::{CancelOnDrop, Turn};
pub use unnamed::UnnamedFile;
