//! SQL and core agree (see [`agreement`]).
#![cfg(feature = "sqlite")]

mod support;

use countersign_testkit::agreement;
use support::Folder;

#[test]
fn random_steps_do_the_same_as_in_the_reference() {
    let folder = Folder::new();
    agreement::random_steps_do_the_same_as_in_the_reference(async || folder.open().await);
}

#[test]
fn advance_and_heal_are_done_exactly_when_they_apply() {
    let folder = Folder::new();
    agreement::advance_and_heal_are_done_exactly_when_they_apply(async || folder.open().await);
}

#[test]
fn what_decide_asks_for_is_done_and_what_is_done_late_is_what_decide_would_still_ask_for() {
    let folder = Folder::new();
    agreement::what_decide_asks_for_is_done_and_what_is_done_late_is_what_decide_would_still_ask_for(
        async || folder.open().await,
    );
}
