//! The status page: one page, readable without scripts, live with its own.

use std::time::Duration;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use worker_drivers::Health;

use super::{Poll, Sight, Sighting, Work};
use crate::{
    board::Lines,
    event::{Gate, Stage},
};

/// What keeps the page live.
pub(super) const SCRIPT: &str = include_str!("status.js");

const STYLE: &str = include_str!("status.css");

/// How often the page loads itself anew where scripts are off, in seconds.
const RELOAD: &str = "10";

/// How many flow runs the page shows. Who holds more looks at the metrics.
const SHOWN: usize = 200;

/// The page as it is now.
pub(super) fn render(sightings: &[Sighting]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title(sightings)) }
                style { (PreEscaped(STYLE)) }
                noscript { meta http-equiv="refresh" content=(RELOAD); }
                script src="/status.js" defer {}
            }
            body {
                main {
                    @for sighting in sightings { (worker(sighting)) }
                }
            }
        }
    };
    page.into_string()
}

fn title(sightings: &[Sighting]) -> String {
    match sightings {
        [Sighting::Worker(sight)] => {
            let Sight { identity, work, .. } = sight.as_ref();
            let (held, pool, name) = (work.load.lives, &identity.pool, &identity.worker);
            format!("{held} in {pool} – {name}")
        }
        [Sighting::None { pool, .. }] => pool.clone(),
        several => {
            let held = several.iter().map(|sighting| match sighting {
                Sighting::Worker(sight) => sight.work.load.lives,
                Sighting::None { .. } => 0,
            });
            format!("{} in {} pools", held.sum::<usize>(), several.len())
        }
    }
}

fn worker(sighting: &Sighting) -> Markup {
    match sighting {
        Sighting::Worker(sight) => html! {
            header {
                h1 { (sight.identity.worker) }
                (verdict(&sight.work, sight.lines.paused.as_deref()))
            }
            (facts(sight))
            (held(&sight.lines, sight.now))
            (ended(&sight.lines, sight.now))
        },
        Sighting::None { pool, reason } => html! {
            header {
                h1 { (pool) }
                span.bad { "takes nothing: " (reason) }
            }
        },
    }
}

/// Whether it takes work, and why not.
fn verdict(work: &Work, paused: Option<&str>) -> Markup {
    let Work { gate, stage, .. } = work;
    match (stage, gate) {
        (Stage::Working, Gate::Open(_)) if paused.is_some() => {
            html! { span.bad { "takes nothing: " (paused.unwrap_or_default()) } }
        }
        (Stage::Working, Gate::Open(_)) => html! { span.good { "takes flow runs" } },
        (Stage::Working, Gate::Full(reason)) => html! { span { (reason) } },
        (Stage::Working, Gate::Closed(reason)) => {
            html! { span.bad { "takes nothing: " (reason) } }
        }
        _ => html! { span.bad { "shutting down" } },
    }
}

fn facts(sight: &Sight) -> Markup {
    let Sight {
        identity,
        kind,
        api,
        poll: Poll { succeeded, error },
        work,
        driver,
        uptime,
        now,
        ..
    } = sight;
    html! {
        dl {
            dt { "Work pool" } dd { (identity.pool) " (" (kind) ")" }
            dt { "API" } dd { code { (api) } }
            dt { "Last poll" }
            dd {
                @match succeeded {
                    Some(at) => { (ago(*at, *now)) }
                    None => { "none has succeeded yet" }
                }
                @if let Some(error) = error { " " span.bad { (error) } }
            }
            dt { "Engine" }
            dd {
                @match driver {
                    Health::Up => { span.good { "up" } }
                    Health::Down { reason } => { span.bad { (reason) } }
                }
            }
            dt { "Flow runs" }
            dd {
                (work.load.lives - work.load.starting) " running, " (work.load.starting) " starting, "
                (work.load.waiting) " waiting to start"
            }
            dt { "Up for" } dd { (in_words(*uptime)) " · worker " (env!("CARGO_PKG_VERSION")) }
        }
    }
}

fn held(lines: &Lines, now: Timestamp) -> Markup {
    let more = lines.held.len().saturating_sub(SHOWN);
    html! {
        h2 { "Flow runs here" }
        @if lines.held.is_empty() {
            p.quiet { "None." }
        } @else {
            table {
                thead { tr { th { "Name" } th { "Phase" } th { "Claimed" } th { "Where" } } }
                tbody {
                    @for (id, held) in lines.held.iter().take(SHOWN) {
                        tr {
                            td { (held.name) @if held.attempt > 1 { " (attempt " (held.attempt) ")" } br; code.quiet { (id) } }
                            td data-label="Phase" { (held.phase) @if let Some(reason) = &held.reason { ": " (reason) } }
                            td data-label="Claimed" { (ago(held.claimed, now)) }
                            td data-label="Where" { @if let Some(infrastructure) = &held.infrastructure { code { (infrastructure) } } }
                        }
                    }
                }
            }
            @if more > 0 { p.quiet { "and " (more) " more" } }
        }
    }
}

fn ended(lines: &Lines, now: Timestamp) -> Markup {
    html! {
        @if !lines.ended.is_empty() {
            h2 { "Ended here" }
            table {
                thead { tr { th { "Name" } th { "How" } th { "When" } } }
                tbody {
                    @for ended in &lines.ended {
                        tr {
                            td { (ended.name) br; code.quiet { (ended.id) } }
                            td data-label="How" { (ended.how) }
                            td data-label="When" { (ago(ended.at, now)) }
                        }
                    }
                }
            }
        }
    }
}

/// A moment, as people say it, with the exact time beneath.
fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let passed = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    html! { time datetime=(at) title=(at) { (in_words(passed)) " ago" } }
}

/// A time in its two largest units.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests;
