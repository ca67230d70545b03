//! How much memory a piece of work took.

/// Does `work` and checks that it never held more than 16 times its `input` and `allowance` bytes more (SEC-025).
pub(crate) fn bounded<T>(input: usize, allowance: usize, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let taken = allocation_counter::measure(|| result = Some(work())).bytes_max;
    let most = 16 * input + allowance;
    assert!(taken <= most as u64, "{taken} bytes for an input of {input}, {most} are allowed");
    result.expect("the work was done")
}

/// For what only copies and decodes: an error, a few names, the state of a hash.
pub(crate) const LITTLE: usize = 4 * 1024;

/// For trees of JSON. A member alone in its object takes some 650 bytes and is written with 8, so what bounds the
/// memory is not the length but how many members and elements a text may have: 256 and 1024.
pub(crate) const TREE: usize = 256 * 1024;
