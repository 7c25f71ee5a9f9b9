use std::{collections::HashMap, path::Path};

use super::*;

/// Hears what a process tells its supervisor.
struct Ear {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Ear {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, directory }
    }

    fn supervisor(&self, more: &[(&str, String)]) -> Supervisor {
        let path = self.directory.path().join("notify");
        supervisor(&path, more).expect("the socket is there")
    }

    /// The lines of everything said so far.
    fn heard(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    }
}

fn supervisor(path: &Path, more: &[(&str, String)]) -> Option<Supervisor> {
    let mut variables: HashMap<&str, OsString> = HashMap::new();
    variables.insert("NOTIFY_SOCKET", path.into());
    variables.extend(more.iter().map(|(name, value)| (*name, value.into())));
    Supervisor::find(|name| variables.get(name).cloned())
}

fn report(ready: bool, status: &str) -> Report {
    Report {
        ready,
        ending: false,
        alive: true,
        status: status.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_not_said_again() {
    let ear = Ear::open();
    let mut supervisor = ear.supervisor(&[]);
    supervisor.tell(&report(false, "not polled yet"));
    assert_eq!(ear.heard(), ["STATUS=not polled yet"]);
    supervisor.tell(&report(false, "not polled yet"));
    assert!(ear.heard().is_empty());
    supervisor.tell(&report(true, "0 flow runs\nheld"));
    assert_eq!(ear.heard(), ["READY=1", "STATUS=0 flow runs held"]);
    supervisor.tell(&report(false, "the API is gone"));
    assert_eq!(ear.heard(), ["STATUS=the API is gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_poll_is_ready_after_a_while_all_the_same() {
    let ear = Ear::open();
    let mut supervisor = ear.supervisor(&[]);
    supervisor.tell(&report(false, "waiting for the API"));
    tokio::time::advance(PATIENCE).await;
    supervisor.tell(&report(false, "waiting for the API"));
    assert_eq!(ear.heard(), ["STATUS=waiting for the API", "READY=1"]);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_hears_three_times_within_its_limit() {
    let ear = Ear::open();
    let limit = Duration::from_secs(30);
    let usec = ("WATCHDOG_USEC", limit.as_micros().to_string());
    let mut supervisor = ear.supervisor(std::slice::from_ref(&usec));
    for _ in 0..limit.as_secs() {
        supervisor.tell(&report(true, "well"));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let alive = |lines: Vec<String>| lines.iter().filter(|line| *line == "WATCHDOG=1").count();
    assert_eq!(alive(ear.heard()), 3);

    let mut of_a_stuck_loop = ear.supervisor(std::slice::from_ref(&usec));
    of_a_stuck_loop.tell(&Report {
        alive: false,
        ..report(true, "well")
    });
    assert_eq!(alive(ear.heard()), 0);

    let other = ("WATCHDOG_PID", "1".to_owned());
    let mut of_another = ear.supervisor(&[usec, other]);
    of_another.tell(&report(true, "well"));
    assert_eq!(alive(ear.heard()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_asks_for_time_each_second() {
    let ear = Ear::open();
    let mut supervisor = ear.supervisor(&[]);
    supervisor.tell(&report(true, "well"));
    ear.heard();
    let ending = Report {
        ending: true,
        ..report(false, "shutting down")
    };
    supervisor.tell(&ending);
    assert_eq!(
        ear.heard(),
        [
            "STOPPING=1",
            "EXTEND_TIMEOUT_USEC=30000000",
            "STATUS=shutting down"
        ]
    );
    supervisor.tell(&ending);
    assert_eq!(ear.heard(), ["EXTEND_TIMEOUT_USEC=30000000"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_heard_is_said_again() {
    let ear = Ear::open();
    let mut supervisor = ear.supervisor(&[]);
    // More than a socket holds, so the last of it is refused.
    for number in 0..2000 {
        supervisor.tell(&report(false, &format!("{number}")));
    }
    supervisor.tell(&report(true, "well"));
    assert!(!ear.heard().contains(&"READY=1".to_owned()));
    supervisor.tell(&report(true, "well"));
    assert_eq!(ear.heard(), ["READY=1", "STATUS=well"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_begins_with_its_time_and_ends_with_ready() {
    let ear = Ear::open();
    let mut supervisor = ear.supervisor(&[]);
    supervisor.reloading();
    supervisor.reloaded();
    assert!(ear.heard().is_empty(), "nobody waits for one yet");
    supervisor.tell(&report(true, "well"));
    ear.heard();
    supervisor.reloading();
    supervisor.reloaded();
    let heard = ear.heard();
    assert_eq!(
        (heard[0].as_str(), heard[2].as_str()),
        ("RELOADING=1", "READY=1")
    );
    let time = heard[1].strip_prefix("MONOTONIC_USEC=");
    assert!(time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0)));
}

#[tokio::test]
async fn a_socket_may_have_an_abstract_name() {
    let name = format!("worker-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let address = format!("@{name}");
    supervisor(Path::new(&address), &[])
        .expect("it is bound")
        .tell(&report(true, "well"));
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1\nSTATUS=well");
}

#[tokio::test]
async fn nobody_is_told_where_nobody_wants_to_know() {
    assert!(Supervisor::find(|_| None).is_none());
    assert!(supervisor(Path::new("/nowhere/notify"), &[]).is_none());
}
