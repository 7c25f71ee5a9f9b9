use std::io::Write as _;

use nix::libc::{SIGKILL, SIGSEGV, SIGTERM};

use super::{
    End, ExitRecord, Intended, JobsDir, Part, Parts, Record, Started, is_locked, is_not_understood,
    parse_name, try_lock,
};
use crate::{
    conformance::fresh_key,
    job::{Outcome, Owner},
};

const STARTED: Started = Started { pid: 12, shim: 11 };

fn jobs() -> (tempfile::TempDir, JobsDir) {
    let root = tempfile::tempdir().expect("there is room");
    let jobs = JobsDir::new(root.path().join("a/b"));
    jobs.create().expect("there is room");
    (root, jobs)
}

#[test]
fn names_of_files_say_whose_they_are() {
    let key = fresh_key();
    let (_root, jobs) = jobs();
    for part in [
        Part::Record,
        Part::Requests,
        Part::Stdout,
        Part::Stderr,
        Part::Exit,
        Part::Directory,
    ] {
        let path = jobs.file(key, part);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("it has one");
        assert_eq!(parse_name(name), Some((key, part)));
    }
    for name in [
        "",
        "x.job",
        "lost+found",
        &format!("{key}.exit~"),
        &format!("{key}"),
    ] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}

#[test]
fn a_record_is_read_as_far_as_it_was_written() {
    let (_root, jobs) = jobs();
    let mut file = jobs.open_record(fresh_key()).expect("there is room");
    let mut write = |text: &str| {
        file.write_all(text.as_bytes()).expect("there is room");
        Record::read(&mut file).expect("it can be read")
    };
    assert_eq!(write(""), None);
    let intended = Intended::new(Owner("me".to_owned()), None);
    let line = serde_json::to_string(&intended).expect("it can be written");
    assert_eq!(write(&line), None);
    assert_eq!(
        write("\n"),
        Some(Record {
            intended: intended.clone(),
            started: None
        })
    );
    let line = serde_json::to_string(&STARTED).expect("it can be written");
    assert_eq!(
        write(&line[..5]),
        Some(Record {
            intended: intended.clone(),
            started: None
        })
    );
    assert_eq!(
        write(&format!("{}\n", &line[5..])),
        Some(Record {
            intended,
            started: Some(STARTED)
        })
    );
}

#[test]
fn a_record_of_another_version_is_refused() {
    let (_root, jobs) = jobs();
    let mut file = jobs.open_record(fresh_key()).expect("there is room");
    file.write_all(b"{\"version\":2,\"owner\":\"me\",\"cgroup\":null}\n")
        .expect("there is room");
    let error = Record::read(&mut file).expect_err("it is not known");
    assert_eq!(
        error.to_string(),
        "its record is not understood: version 2 is not known"
    );
    assert!(is_not_understood(&error));
}

#[test]
fn a_record_of_no_known_form_is_refused() {
    for text in [
        &b"\n"[..],
        b"garbage\n",
        b"\xff\n",
        b"{\"version\":1,\"owner\":\"me\",\"cgroup\":null}\ngarbage\n",
    ] {
        let (_root, jobs) = jobs();
        let mut file = jobs.open_record(fresh_key()).expect("there is room");
        file.write_all(text).expect("there is room");
        let error = Record::read(&mut file).expect_err("it is not known");
        assert!(is_not_understood(&error), "{error}");
    }
}

#[test]
fn an_exit_file_of_no_known_form_is_an_end_that_is_lost() {
    let (_root, jobs) = jobs();
    for text in [&b""[..], b"garbage", b"\xff", b"{\"version\":2}"] {
        let key = fresh_key();
        std::fs::write(jobs.file(key, Part::Exit), text).expect("there is room");
        let exit = jobs.find_exit(key).expect("it can be read");
        let outcome = exit.map(|exit| exit.outcome());
        assert!(
            matches!(&outcome, Some(Outcome::Lost { reason }) if reason.contains("not understood")),
            "{outcome:?}"
        );
    }
}

#[test]
fn an_exit_file_that_cannot_be_read_is_an_error() {
    let (_root, jobs) = jobs();
    let key = fresh_key();
    std::fs::create_dir(jobs.file(key, Part::Exit)).expect("there is room");
    let error = jobs.find_exit(key).expect_err("it cannot be read");
    assert!(!is_not_understood(&error), "{error}");
}

#[test]
fn the_lock_belongs_to_the_open_file() {
    let (_root, jobs) = jobs();
    let key = fresh_key();
    let one = jobs.open_record(key).expect("there is room");
    let two = jobs.open_record(key).expect("it is there");
    assert!(!is_locked(&two).expect("it can be asked"));
    assert!(try_lock(&one).expect("it can be asked"));
    assert!(is_locked(&two).expect("it can be asked"));
    assert!(!try_lock(&two).expect("it can be asked"));
    let inherited = one.try_clone().expect("there is room");
    drop(one);
    assert!(is_locked(&two).expect("it can be asked"));
    drop(inherited);
    assert!(try_lock(&two).expect("it can be asked"));
}

#[test]
fn a_record_that_was_made_anew_is_not_the_old_one() {
    let (_root, jobs) = jobs();
    let key = fresh_key();
    let old = jobs.open_record(key).expect("there is room");
    assert!(jobs.is_current(key, &old).expect("it can be asked"));
    jobs.remove(key).expect("it is ours");
    assert!(!jobs.is_current(key, &old).expect("it can be asked"));
    let new = jobs.open_record(key).expect("there is room");
    assert!(!jobs.is_current(key, &old).expect("it can be asked"));
    assert!(jobs.is_current(key, &new).expect("it can be asked"));
}

#[test]
fn listing_finds_what_has_a_record_or_an_end() {
    let (_root, jobs) = jobs();
    let (running, ended, stray) = (fresh_key(), fresh_key(), fresh_key());
    for key in [running, ended] {
        jobs.open_record(key).expect("there is room");
    }
    for key in [ended, stray] {
        jobs.write_exit(key, &ExitRecord::new(End::Code(0)))
            .expect("there is room");
    }
    std::fs::write(jobs.path().join("notes.txt"), "").expect("there is room");
    let listed = jobs.list().expect("it can be listed");
    assert_eq!(listed.len(), 3);
    assert_eq!(
        listed[&running],
        Parts {
            record: true,
            exit: false
        }
    );
    assert_eq!(
        listed[&ended],
        Parts {
            record: true,
            exit: true
        }
    );
    assert_eq!(
        listed[&stray],
        Parts {
            record: false,
            exit: true
        }
    );
    jobs.remove(ended).expect("it is ours");
    assert_eq!(jobs.list().expect("it can be listed").len(), 2);
}

#[test]
fn a_directory_that_is_gone_has_lost_no_job() {
    let (root, jobs) = jobs();
    let key = fresh_key();
    assert!(jobs.find_record(key).expect("it can be asked").is_none());
    root.close().expect("it is ours");
    jobs.find_record(key).expect_err("it cannot be asked");
}

/// The outcome of an end with these facts known about it.
fn outcome(end: End, facts: &[&str]) -> Outcome {
    let mut exit = ExitRecord::new(end);
    exit.reported = facts.contains(&"reported");
    exit.stopped = facts.contains(&"stopped");
    if facts.contains(&"starved") {
        (exit.oom_kills, exit.memory_limit) = (Some(1), Some(4096));
    }
    exit.outcome()
}

fn exited(code: i32, reported: bool) -> Outcome {
    Outcome::Exited { code, reported }
}

fn signalled(signal: i32, by_us: bool) -> Outcome {
    Outcome::Signalled { signal, by_us }
}

#[test]
fn an_exit_keeps_its_code() {
    assert_eq!(outcome(End::Code(3), &[]), exited(3, false));
    assert_eq!(outcome(End::Code(1), &["reported"]), exited(1, true));
    assert_eq!(outcome(End::Code(0), &["stopped"]), exited(0, false));
}

#[test]
fn a_signal_is_ours_when_we_stopped_the_job_by_it() {
    assert_eq!(outcome(End::Signal(SIGKILL), &[]), signalled(9, false));
    assert_eq!(outcome(End::Signal(SIGTERM), &[]), signalled(15, false));
    assert_eq!(
        outcome(End::Signal(SIGTERM), &["stopped"]),
        signalled(15, true)
    );
    assert_eq!(
        outcome(End::Signal(SIGSEGV), &["stopped"]),
        signalled(11, false)
    );
}

#[test]
fn an_engine_that_reported_is_believed_whatever_its_process_does() {
    assert_eq!(
        outcome(End::Signal(SIGTERM), &["reported"]),
        exited(143, true)
    );
    assert_eq!(
        outcome(End::Code(1), &["reported", "starved"]),
        exited(1, true)
    );
}

#[test]
fn lack_of_memory_is_named_when_it_ended_the_job() {
    let starved = Outcome::OutOfMemory { limit: Some(4096) };
    assert_eq!(outcome(End::Signal(SIGKILL), &["starved"]), starved);
    assert_eq!(outcome(End::Code(137), &["starved"]), starved);
    assert_eq!(outcome(End::Code(0), &["starved"]), exited(0, false));
    assert_eq!(
        outcome(End::Signal(SIGKILL), &["starved", "stopped"]),
        signalled(9, true)
    );
}

#[test]
fn a_lost_job_says_why() {
    let lost = End::Lost("why".to_owned());
    assert_eq!(
        outcome(lost, &[]),
        Outcome::Lost {
            reason: "why".to_owned()
        }
    );
}

#[test]
fn an_exit_file_is_read_as_it_was_written() {
    let (_root, jobs) = jobs();
    let key = fresh_key();
    assert_eq!(jobs.find_exit(key).expect("it can be asked"), None);
    let exit = ExitRecord::new(End::Signal(9));
    jobs.write_exit(key, &exit).expect("there is room");
    assert_eq!(jobs.find_exit(key).expect("it can be read"), Some(exit));
}
