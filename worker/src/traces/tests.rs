use worker_config::settings::{self, Sources};

use super::*;

fn recorder(share: f64) -> (Recorder, mpsc::Receiver<Item>) {
    let settings = settings::load(&Sources::default()).expect("the defaults are right");
    let (items_tx, items_rx) = mpsc::channel(2);
    let recorder = Recorder {
        settings: TracesSettings {
            share,
            ..settings.traces
        },
        worker: Vec::new(),
        lives: Mutex::default(),
        items_tx,
        lost: IntCounter::new("lost", "Spans.").expect("the name is legal"),
        dropping: AtomicBool::new(false),
    };
    (recorder, items_rx)
}

#[test]
fn a_trace_has_the_id_of_its_flow_run_or_is_a_part_of_another() {
    let (recorder, _items_rx) = recorder(1.0);
    let id = Uuid::from_u128(7);
    let own = recorder.begin(id, None);
    assert_eq!((own.id, own.parent), (id, None));
    let context = format!("00-{}-{:016x}-01", id.simple(), own.span);
    assert_eq!(own.traceparent(), context);

    let part = recorder.begin(Uuid::from_u128(8), Some(&context));
    assert_eq!((part.id, part.parent), (id, Some(own.span)));
    for nonsense in [
        "",
        "00-1-2-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    ] {
        assert_eq!(
            recorder.begin(id, Some(nonsense)).parent,
            None,
            "{nonsense}"
        );
    }
}

#[test]
fn attempts_of_a_flow_run_stand_beside_each_other_in_its_trace() {
    let (recorder, _items_rx) = recorder(1.0);
    let flow_run = Uuid::now_v7();
    let first = recorder.begin(flow_run, None);
    let second = recorder.begin(flow_run, Some(&first.traceparent()));
    assert_eq!((second.id, second.parent), (flow_run, None));
}

#[test]
fn attempts_of_a_part_of_another_trace_stand_beside_each_other_too() {
    let (recorder, _items_rx) = recorder(1.0);
    let outer = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut labels = Map::from_iter([(LABEL.to_owned(), outer.into())]);
    let mut attempt = || {
        let trace = recorder.begin(Uuid::new_v4(), find_outer(&labels));
        labels.extend(trace.labels());
        assert_eq!(labels[LABEL], trace.traceparent());
        // Prefect's engine writes its own span there.
        let engine = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        labels.insert(LABEL.to_owned(), engine.into());
        trace
    };
    let (first, second) = (attempt(), attempt());
    assert_eq!(first.parent, Some(0xb7ad_6b71_6920_3331));
    assert_eq!((second.id, second.parent), (first.id, first.parent));
}

#[test]
fn what_is_not_recorded_says_so_to_its_parts() {
    let (recorder, _items_rx) = recorder(0.0);
    let own = recorder.begin(Uuid::new_v4(), None);
    assert!(!own.recorded && own.traceparent().ends_with("-00"));
    let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert!(recorder.begin(Uuid::new_v4(), Some(sampled)).recorded);
}

#[test]
fn a_share_is_about_that_share() {
    let (recorder, _items_rx) = recorder(0.25);
    let taken = |_: &u32| recorder.begin(Uuid::new_v4(), None).recorded;
    let count = (0..1000).filter(taken).count();
    assert!((150..350).contains(&count), "{count}");
}

#[test]
fn what_finds_no_room_is_dropped_which_is_said_once_for_each_spell() {
    let (recorder, mut items_rx) = recorder(1.0);
    let life = Life {
        trace: recorder.begin(Uuid::new_v4(), None),
        step: ("", Timestamp::UNIX_EPOCH, 1),
    };
    let offer =
        || recorder.begins_to_drop(life.span("pull", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH));
    // What the collector did not take is counted, too, and is another matter.
    recorder.lost.inc();
    assert_eq!(
        [(); 5].map(|()| offer()),
        [false, false, true, false, false]
    );
    assert!(items_rx.try_recv().is_ok() && items_rx.try_recv().is_ok());
    assert_eq!([(); 4].map(|()| offer()), [false, false, true, false]);
    assert_eq!(recorder.lost.get(), 1 + 5);
}
