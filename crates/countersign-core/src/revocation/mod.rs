//! Revocation: an insert-only log whose insert is the commit point, and an in-memory index of it that answers
//! on every request without a call to the store.

mod entry;
mod index;
mod view;

pub use entry::{Entry, EntryKey, Target};
pub use index::{Index, RevokedBy, Standing};
pub use view::{RevocationView, ViewStats, ViewTooOld};
