//! A request's body, read ahead of its handler.

use std::fmt;

use bytes::Bytes;

/// The whole body of a request, among its extensions, for tokens and CSRF values that travel in one. The handler
/// still gets the body itself.
#[derive(Clone)]
pub struct BufferedBody(pub Bytes);

impl fmt::Debug for BufferedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferedBody({} bytes)", self.0.len())
    }
}
