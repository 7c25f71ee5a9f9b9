use std::sync::Arc;

use nix::errno::Errno;

use super::{Eyes, Notice};
use crate::{
    conformance::fresh_key,
    driver::JobEvent,
    job::{Environment, Outcome, Owner, Phase},
    subprocess::{
        Shared, SubprocessOptions,
        jobs_dir::{End, ExitRecord, Intended, Part},
    },
};

#[test]
fn an_end_that_could_not_be_read_is_told_by_a_later_sweep() {
    let root = tempfile::tempdir().expect("there is room");
    let settings = SubprocessOptions::new(root.path().join("jobs"), Environment::default());
    let shared = Shared::open(settings).expect("there is room");
    let mut notices = shared.notices.subscribe();
    let (stop, _stopper) = std::io::pipe().expect("there is room");
    let mut eyes = Eyes::open(Arc::clone(&shared), stop, Err(Errno::EMFILE)).expect("it is there");
    let key = fresh_key();
    let intended = Intended::new(Owner("me".to_owned()), None);
    let line = serde_json::to_string(&intended).expect("it can be written");
    std::fs::write(
        shared.jobs.file(key, Part::Record),
        format!("{line}\n{{\"pid\":1,\"shim\":1}}\n"),
    )
    .expect("there is room");
    // A directory cannot be read as a file, whoever asks.
    let exit = shared.jobs.file(key, Part::Exit);
    std::fs::create_dir(&exit).expect("there is room");
    eyes.sweep();
    notices
        .try_recv()
        .expect_err("there is nothing to tell yet");
    std::fs::remove_dir(&exit).expect("it is ours");
    let end = ExitRecord::new(End::Code(4));
    shared.jobs.write_exit(key, &end).expect("there is room");
    eyes.sweep();
    let Ok(Notice::Event { event, .. }) = notices.try_recv() else {
        panic!("it was not told");
    };
    let phase = Phase::Exited(Outcome::Exited {
        code: 4,
        reported: false,
    });
    assert_eq!(event, JobEvent::Changed { key, phase });
    eyes.sweep();
    notices.try_recv().expect_err("it was told");
}
