//! A request's body, read ahead of its handler.

use std::fmt;

use bytes::Bytes;

/// The whole body of a request, kept among its extensions, for tokens and CSRF values that travel in a body. The
/// handler still gets the body itself.
#[derive(Clone)]
pub struct BufferedBody(pub Bytes);

impl fmt::Debug for BufferedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferedBody({} bytes)", self.0.len())
    }
}

/// The first 64 KiB of a body that is longer, kept among the request's extensions in place of [`BufferedBody`]. The
/// CSRF field of a form may be in it, if it comes before the files.
#[derive(Clone)]
pub struct BodyBeginning(pub Bytes);

impl fmt::Debug for BodyBeginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyBeginning({} bytes)", self.0.len())
    }
}
