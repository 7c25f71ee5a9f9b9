use worker_config::settings::{self, Sources};
use worker_drivers::fake::FakeEngine;

use super::*;

fn setup(root: &std::path::Path) -> Setup {
    // It is taken while requests may be made by whichever test was first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let url: url::Url = "http://127.0.0.1:1/".parse().expect("it is one");
    let mut settings = settings::load(&Sources::default()).expect("the defaults are right");
    settings.traces.endpoint = Some(url.clone());
    let driver = FakeEngine::new().driver();
    Setup {
        settings_rx: watch::channel(Arc::new(settings.clone())).1,
        settings,
        client: Client::new(ClientOptions::new(url)).expect("it is right"),
        wish: PoolWish {
            pool: "demo".to_owned(),
            kind: driver.kind(),
            template: driver.default_template(),
            create: true,
            sync_template: false,
        },
        driver: Arc::new(driver),
        state_dir: Arc::new(StateDir::take(root, "demo", None).expect("it is free")),
        echo: false,
        seat: None,
    }
}

#[tokio::test]
#[expect(
    clippy::used_underscore_binding,
    reason = "it is only held, but for this"
)]
async fn a_worker_lives_on_when_its_traces_end() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut assembled = assemble(setup(root.path())).await.expect("it can be made");
    let tracing = assembled.parts._tracing.take();
    drop(tracing.expect("somebody wants traces"));
    // The recorder finds nobody who listens, and says so.
    let traces = &assembled.services.board.traces;
    traces.flushed(Duration::from_secs(5)).await;
    assert!(assembled.parts.check().is_ok());
}
