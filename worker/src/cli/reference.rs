//! Commands for those who package and document the program: completions, manual pages, and the pages of `docs/` that are made from what
//! the code knows. They are hidden from help, as nobody needs them to run a worker.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;
use clap::{Arg, Command, CommandFactory as _};
use worker_config::settings::{self, KeyReference};

use super::{
    args::{Cli, Page},
    out,
};

/// The first line of a page that nobody writes by hand.
const MADE: &str = "<!-- Made by `worker reference`; tests/docs holds it against the program. -->";

/// Writes what a shell needs to complete the command line.
pub(crate) fn completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "worker", &mut script);
    out::write_all(&script);
}

/// Writes a manual page for the program and for each of its commands into a directory.
pub(crate) fn manual(into: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(into)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), into))
        .with_context(|| into.display().to_string())
}

/// Writes a page of the documentation.
pub(crate) fn page(page: Page) {
    let text = match page {
        Page::Configuration => configuration(&settings::reference()),
        Page::CommandLine => command_line(&Cli::command()),
    };
    out::write_all(text.as_bytes());
}

// === the settings ===

fn configuration(keys: &[KeyReference]) -> String {
    let mut page = format!(
        "{MADE}\n# Configuration\n\nEvery setting, by its section in `worker.toml`. What is set in several places, the later one wins: Prefect profile, \
         `worker.toml`, environment, flags. [config/reference.toml](../config/reference.toml) is the same as a file to begin with; \
         [the command line](command-line.md) has its flags.\n\nDurations are a number of seconds, or a text like `30s`, `5m` or `1h30m`.\n"
    );
    let mut section = "";
    for key in keys {
        if key.section != section {
            section = key.section;
            put(&mut page, format_args!("\n## `[{section}]`\n\n"));
            page.push_str("| Key | Default | Variable | What it is |\n|---|---|---|---|\n");
        }
        let default = if key.is_example {
            format!("none, e.g. `{}`", key.value)
        } else {
            format!("`{}`", key.value)
        };
        let row = (&key.name, default, &key.variables[0], cell(&key.about));
        put(
            &mut page,
            format_args!("| `{}` | {} | `{}` | {} |\n", row.0, row.1, row.2, row.3),
        );
    }
    page
}

// === the command line ===

fn command_line(command: &Command) -> String {
    let mut page = format!(
        "{MADE}\n# The command line\n\nExit codes: 0 done; 1 the run or check failed, or what was named is not there; 2 wrong usage; 78 wrong configuration.\n"
    );
    describe(&mut page, command, &[]);
    let every = command.get_arguments().filter(|arg| arg.is_global_set());
    page.push_str("\n## What every command takes\n\n");
    table(&mut page, every);
    let accepted: Vec<String> = command
        .get_arguments()
        .filter(|arg| arg.is_hide_set())
        .map(|arg| format!("`{}`", spelled(arg)))
        .collect();
    put(
        &mut page,
        format_args!(
            "\n## What is accepted besides\n\n{} are flags of `prefect worker start` that say what is so anyway, or take back what was said before.\n",
            accepted.join(", ")
        ),
    );
    page
}

/// A command and those below it. One that takes nothing but what its parent takes is not said again.
fn describe(page: &mut String, command: &Command, parents: &[&str]) {
    let names: Vec<&str> = parents
        .iter()
        .copied()
        .chain([command.get_name()])
        .collect();
    put(page, format_args!("\n## `{}`\n\n", names.join(" ")));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let about = about.to_string();
        put(page, format_args!("{}.\n\n", about.trim_end_matches('.')));
    }
    let own = |arg: &&Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
    if names == ["worker", "start"] {
        page.push_str("Its flags are those of `worker`.\n");
    } else if command.get_arguments().any(|arg| own(&arg)) {
        table(page, command.get_arguments().filter(own));
    }
    let shown = |below: &&Command| !below.is_hide_set() && below.get_name() != "help";
    for below in command.get_subcommands().filter(shown) {
        describe(page, below, &names);
    }
}

fn table<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str("| Argument | What it is |\n|---|---|\n");
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string);
        let mut help = cell(&help.unwrap_or_default());
        for default in argument.get_default_values() {
            let default = default.to_string_lossy();
            put(&mut help, format_args!("; by default {default}"));
        }
        put(page, format_args!("| `{}` | {help} |\n", spelled(argument)));
    }
}

/// How an argument is typed: `-p, --pool NAME`, or `PATH`.
fn spelled(argument: &Arg) -> String {
    let value = argument
        .get_action()
        .takes_values()
        .then(|| argument.get_value_names().unwrap_or_default().join(" "));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let words = [names.join(", "), value.unwrap_or_default()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.join(" ").trim().to_owned()
}

/// Text as a cell of a table takes it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a text takes any text");
}
