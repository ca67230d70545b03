//! Deletes old rows, a few at a time.

/// How many rows one statement deletes at most, which takes some milliseconds.
pub(crate) const PURGE_STEP: usize = 1_000;

/// Deletes at most so many rows in steps, so that no write delays others for long. A step deletes at most as many rows
/// as it is told and returns how many it deleted; a step that deletes fewer is the last.
pub(crate) async fn in_steps<E, F>(at_most: usize, step: impl Fn(usize) -> F) -> Result<u64, E>
where
    F: Future<Output = Result<u64, E>>,
{
    let mut left = at_most;
    let mut purged = 0_u64;
    while left > 0 {
        let at_most = left.min(PURGE_STEP);
        let gone = step(at_most).await?;
        purged = purged.saturating_add(gone);
        left -= at_most;
        if gone < at_most as u64 {
            break;
        }
    }
    Ok(purged)
}

/// How many rows may still be deleted, if `at_most` may be and `purged` already are.
pub(crate) fn left(at_most: usize, purged: u64) -> usize {
    at_most.saturating_sub(usize::try_from(purged).unwrap_or(usize::MAX))
}
