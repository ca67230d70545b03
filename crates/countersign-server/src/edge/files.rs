//! The number of files that the process may have open, each connection among them.

/// The number of connections beyond which more cost memory rather than serve anybody.
const MOST: usize = 10_000;

/// The number of files that the server needs beside its connections: stores, logs, metrics.
const OTHERS: u64 = 256;

/// Raises the number of files that may be open to the most that the system allows. Many systems allow few at first, for
/// the sake of old programs that use `select`.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the number of open files stays limited to {:?}", limit.current);
    }
}

#[cfg(not(unix))]
pub(crate) fn raise_limit() {}

/// How many connections the limit on open files allows beside everything else; `None` if there is no limit.
fn possible_connections() -> Option<usize> {
    #[cfg(unix)]
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let files = None;
    files.map(below)
}

/// The sentence for a number of connections that the limit on open files does not allow.
pub(crate) fn too_many_connections(wanted: usize) -> Option<String> {
    let possible = possible_connections().filter(|possible| wanted > *possible)?;
    Some(format!(
        "COUNTERSIGN_MAX_CONNECTIONS is {wanted}, more than the {possible} that the limit on open files allows; raise that \
         (ulimit -n, LimitNOFILE=), or set it lower"
    ))
}

/// The default for the number of connections: as many as the limit on open files allows, at most 10,000.
pub(crate) fn default_connections() -> usize {
    possible_connections().map_or(MOST, |possible| possible.min(MOST))
}

fn below(open_files: u64) -> usize {
    let left = open_files.saturating_sub(OTHERS).max(open_files / 2).max(1);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_151_there_are_fewer_connections_than_files() {
        for (files, connections) in
            [(1_048_576, 1_048_320), (20_000, 19_744), (1024, 768), (256, 128), (1, 1), (0, 1)]
        {
            assert_eq!(below(files), connections, "{files}");
        }
        assert!(default_connections() <= MOST);
    }
}
