//! Functions by which implementations of [`Rules`](crate::Rules) and [`Gate`](crate::Gate) read requests and write
//! answers and log lines.

pub use crate::answer::quotable;
pub use crate::cookie::{find_cookie_by, trim};
pub use crate::form::{Field as FormField, field as form_field, is_form};
pub use crate::handshake::{is_handshake, is_handshake_from_nowhere};
pub use crate::locate::essence as content_type;
pub use crate::log::{shown_in_log, write_with_causes};
