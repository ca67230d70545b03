//! Deciding who sent a request, where proxies pass requests on.
//!
//! A server behind a proxy sees the proxy's address. The proxy names the client in a header, but anybody can send that
//! header. So a header counts only if it comes from a proxy that the operator trusts, and in it only the part that
//! trusted proxies have written: addresses are read from right to left up to the first that is no trusted proxy
//! (SEC-152). What stands further left is the client's own word.

mod address;
mod chain;
mod element;
mod trusted;

pub use address::{ClientAddress, HowFound, ThrottleKey};
pub use chain::{Caller, ChainProblem, ForwardedHeader, ForwardedHeaderError};
pub use trusted::{TrustedProxies, TrustedProxiesError};
