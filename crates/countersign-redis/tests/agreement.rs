//! Lua and core agree (see [`agreement`]).

mod support;

use countersign_testkit::agreement;
use support::Place;

#[test]
fn random_steps_do_the_same_as_in_the_reference() {
    let Some(place) = Place::durable() else { return };
    agreement::random_steps_do_the_same_as_in_the_reference(async || place.open().await);
}

#[test]
fn advance_and_heal_are_done_exactly_when_they_apply() {
    let Some(place) = Place::durable() else { return };
    agreement::advance_and_heal_are_done_exactly_when_they_apply(async || place.open().await);
}

#[test]
fn what_decide_asks_for_is_done_and_what_is_done_late_is_what_decide_would_still_ask_for() {
    let Some(place) = Place::durable() else { return };
    agreement::what_decide_asks_for_is_done_and_what_is_done_late_is_what_decide_would_still_ask_for(
        async || place.open().await,
    );
}
