//! One suite that every driver passes.
//!
//! A driver's tests implement [`Subject`], and [`driver_conformance!`](crate::driver_conformance) makes a test of each case. A case knows nothing of
//! any engine: it asks for jobs by what they do ([`Behaviour`]).

#![expect(
    clippy::missing_panics_doc,
    reason = "a case panics when a driver fails it"
)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    driver::Driver,
    job::{Job, OutputStream, Owner, RunKey},
};

pub mod destroy;
pub mod events;
pub mod hygiene;
pub mod logs;
pub mod outcome;
pub mod recover;
mod scene;
pub mod stop;
pub mod submit;

pub use scene::Scene;

/// A driver under test, with the engine it needs.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A driver as a worker gets it when it starts, on the same engine each time: the first is the worker's, the next its successor's, or that of
    /// a second worker beside it.
    async fn driver(&self) -> Arc<dyn Driver>;

    /// A job that behaves like this. Its environment holds what the subject needs; cases add to it.
    fn job(&self, key: RunKey, owner: Owner, behaviour: &Behaviour) -> Job;

    /// How many processes of a job there are, of whatever generation.
    async fn processes(&self, key: RunKey) -> usize;

    /// Makes the engine unreachable for everybody, or reachable again.
    async fn set_reachable(&self, reachable: bool);

    /// Everything the engine keeps of a job that others than the job itself could read: files, argument lists, what it shows.
    async fn traces(&self, key: RunKey) -> String;

    /// Whether a submission is over before the job's program is looked for, so that one that is missing is told as the job's end.
    fn starts_later(&self) -> bool {
        false
    }

    /// Whether the engine keeps the two streams of a job apart. Where it does not, all lines count as standard output.
    fn keeps_streams_apart(&self) -> bool {
        true
    }

    /// Whether the engine may not record how a job ended that it was told to end.
    fn loses_ends(&self) -> bool {
        false
    }

    /// The longest grace that can still be shortened. An engine may stick to what it was told first.
    fn longest_grace(&self) -> Duration {
        Duration::from_hours(1)
    }
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Exits with this code at once.
    Exit(i32),
    /// Ends itself by this signal.
    Signal(i32),
    /// Runs until it is stopped, and ends by the polite signal.
    Wait,
    /// Runs until it is stopped, and then exits with this code.
    WaitThenExit(i32),
    /// Runs, and takes no notice of the polite signal.
    IgnoreStop,
    /// Starts a process that cuts itself loose (a session of its own, its parent gone) and takes no notice of the polite signal; then
    /// waits itself.
    WaitWithChild,
    /// Starts such a process and exits 0.
    LeaveChild,
    /// Writes these, one after the other, and exits 0.
    Write(Vec<(OutputStream, &'static [u8])>),
    /// Writes lines `out 1`, `out 2` … to standard output and `err 1` … to standard error, and exits 0.
    Lines(usize),
    /// The same, and then runs until it is stopped.
    LinesThenWait(usize),
    /// Writes one line of so many `x`, and exits 0.
    LongLine(usize),
    /// Runs until it is stopped, then writes `last words` to standard output and exits 0.
    LastWords,
    /// Names a program that does not exist: [`MISSING_PROGRAM`].
    MissingProgram,
}

/// A program that exists nowhere.
pub const MISSING_PROGRAM: &str = "no-such-program-4711";

/// An attempt nobody has heard of.
pub fn fresh_key() -> RunKey {
    RunKey {
        flow_run: Uuid::new_v4(),
        attempt: 1,
    }
}

/// Makes a module of tests for each part of the suite, with a test for each case.
///
/// ```text
/// async fn subject() -> MySubject { … }
/// worker_drivers::driver_conformance!(subject);
/// worker_drivers::driver_conformance!(subject, start_paused = true);
/// ```
#[macro_export]
macro_rules! driver_conformance {
    ($subject:ident $(, $($runtime:tt)*)?) => {
        $crate::driver_conformance!(@parts $subject, ($($($runtime)*)?));
    };
    (@parts $subject:ident, $runtime:tt) => {
        $crate::driver_conformance!(@part $subject, $runtime, submit: [
            twice_adopts,
            twice_at_once_makes_one,
            after_the_end_adopts,
            after_a_restart_adopts,
            a_missing_program_is_named_and_nothing_is_left,
            dropped_half_way_is_findable,
            a_second_attempt_is_another_job,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, outcome: [
            exit_0_is_told,
            exit_3_is_told,
            a_signal_is_told_apart_from_an_exit,
            an_end_before_anybody_watches_is_told,
            a_child_left_behind_does_not_outlive_its_job,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, stop: [
            politely_ends_by_our_signal,
            politely_leaves_the_exit_code_to_the_job,
            what_takes_no_notice_is_forced,
            a_shorter_grace_shortens,
            a_longer_grace_does_not_lengthen,
            twice_is_success,
            after_the_end_is_success,
            racing_the_end_is_success,
            ends_what_the_job_started,
            a_stop_for_each_intent_ends_the_job,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, destroy: [
            twice_is_success,
            before_submit_is_success,
            while_running_forces_the_end,
            leaves_nothing,
            after_a_restart_works,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, recover: [
            a_running_job_is_running_and_can_be_stopped,
            a_job_that_ended_meanwhile_has_its_exit_code,
            what_never_was_is_missing,
            what_was_destroyed_is_missing,
            an_unreachable_engine_is_not_a_missing_job,
            an_unknown_handle_is_unsupported,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, events: [
            one_stream_tells_of_many_jobs,
            a_stream_begins_with_everything_there_is,
            a_lost_watch_is_said_and_made_up_for,
            ends_wait_for_a_slow_consumer,
            owners_do_not_see_each_other,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, logs: [
            lines_come_in_order,
            streams_are_told_apart,
            resuming_neither_loses_nor_repeats,
            resuming_after_a_restart_neither_loses_nor_repeats,
            bytes_that_are_not_text_do_no_harm,
            a_very_long_line_comes_whole_in_pieces,
            what_was_written_at_the_end_is_read,
            a_line_without_an_end_is_read,
            following_a_running_job_waits_for_its_end,
        ]);
        $crate::driver_conformance!(@part $subject, $runtime, hygiene: [
            secrets_of_a_job_are_nowhere,
            fifty_jobs_at_once,
            health_follows_the_engine,
            the_template_is_one,
            policy_is_applied_before_anything_happens,
        ]);
    };
    (@part $subject:ident, $runtime:tt, $part:ident: [$($case:ident,)*]) => {
        mod $part {
            $(
                #[tokio::test $runtime]
                async fn $case() {
                    $crate::conformance::$part::$case(&super::$subject().await).await;
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests;
