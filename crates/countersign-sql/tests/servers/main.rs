//! The stores on a database server, on real servers: PostgreSQL (`TEST_POSTGRES_URL`, and PgBouncer in transaction mode
//! before it: `TEST_PGBOUNCER_URL`), and MariaDB or MySQL (`TEST_MYSQL_URL`).
//!
//! Each test is written once, over a [`ServerUnderTest`](support::ServerUnderTest), and runs on both. What only one of
//! them has is in its own module. `cargo test --test servers postgres::` runs those of one server, `mysql::races::` those
//! of one subject.
#![cfg(any(feature = "mysql", feature = "postgres"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

/// The tests of these subjects on one server.
macro_rules! tests {
    ($server:ident: $($subject:ident { $($(#[$attribute:meta])* $test:ident,)+ })+) => {$(
        mod $subject {
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    crate::$subject::$test::<super::$server>().await;
                }
            )+
        }
    )+};
}

/// Every test that runs on both servers. One that is left out here is never used, which the compiler says.
macro_rules! tests_on {
    ($server:ident) => {
        tests! {
            $server:
            contract {
                sec_157_the_contract_is_kept,
                #[ignore = "takes a while; run with --ignored"]
                slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race,
                #[ignore = "takes a while; run with --ignored"]
                slow_sec_088_a_million_revocations_over_three_lifetimes,
            }
            log {
                an_entry_that_becomes_visible_10_seconds_late_is_still_read,
                every_kind_of_revocation_is_told_to_other_nodes,
                who_was_cut_off_looks_again_for_what_was_missed,
                following_ends_with_the_store,
                the_time_is_the_servers,
            }
            opening {
                five_nodes_open_an_empty_database_at_once,
                a_server_is_found_by_its_address_of_ipv6,
                migrations_are_run_only_if_wanted,
                an_application_may_have_tables_with_such_names,
                a_user_who_may_not_make_tables_can_use_them,
                tables_of_the_first_version_are_brought_up_to_date,
                keys_are_found_in_a_store_that_has_some,
                no_error_and_no_text_shows_a_secret,
            }
            outages {
                sec_087_a_server_that_hangs_fails_every_operation_by_the_deadline,
                connections_that_are_swallowed_for_good_are_replaced,
                callers_in_turn_do_not_find_out_one_by_one_that_all_connections_are_dead,
                after_a_restart_of_the_server_reads_notice_nothing,
                the_tail_does_not_wait_behind_other_work,
                what_a_caller_gave_up_the_server_gives_up_too,
                callers_that_go_away_leave_no_connection_in_a_state,
                statements_that_no_longer_fit_are_prepared_anew,
            }
            races {
                no_step_that_waited_for_an_end_outlives_it,
                an_end_that_waited_for_a_step_ends_what_the_step_has_left,
                a_login_that_was_being_inserted_while_the_epoch_was_raised_is_taken_back,
                of_parallel_ends_one_wins_although_they_waited_for_each_other,
                an_entry_that_was_there_first_ends_nothing_anew,
                what_the_server_undid_for_others_is_done_again,
                steps_and_notes_and_ends_of_many_sessions_never_block_each_other_for_good,
                tokens_named_twice_in_a_call_are_revoked_once,
                a_refused_attempt_writes_nothing,
                sec_088_entries_that_stay_do_not_keep_others_from_being_purged,
                a_session_that_is_open_was_not_ended_before_although_the_first_read_lags,
                sec_138_of_those_who_waited_to_try_a_secret_one_finds_it,
                a_mail_that_another_node_is_claiming_is_left_to_it,
                of_users_who_want_each_others_names_none_waits_for_good,
            }
            throughput {
                #[ignore = "a measurement; run with --release --ignored --nocapture"]
                slow_refreshes_of_64_clients_at_once,
                #[ignore = "a measurement; run with --release --ignored --nocapture"]
                slow_how_soon_another_node_is_told,
            }
        }
    };
}

mod contract;
mod log;
#[cfg(feature = "mysql")]
mod mysql;
mod opening;
mod outages;
#[cfg(feature = "postgres")]
mod postgres;
mod races;
mod support;
mod throughput;
