//! What goes wrong on the way: answers that fail, break, stall, lie or point elsewhere, and pulls that are interrupted.

use std::time::Duration;

use serde_json::{Value, json};
use worker_pull::blob::BlobError;

use crate::{
    faults::{Fault, Faulty, answer},
    servers::{Desk, Server},
};

const LIST: &str = "list-type=2";

async fn scene() -> (Server, Faulty, Desk) {
    let server = Server::moto().await;
    let large = vec![b'x'; 3 << 20];
    server
        .fill_bucket(
            "code",
            &[
                ("p/a.py", b"content"),
                ("p/large", &large),
                ("first", b"content"),
            ],
        )
        .await;
    let proxy = Faulty::before(server.port).await;
    (server, proxy, Desk::new())
}

fn step(url: &str) -> Value {
    json!({"bucket": "code", "folder": "p", "credentials": {
        "aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret",
        "aws_client_parameters": {"endpoint_url": url},
    }})
}

#[tokio::test]
async fn a_server_that_fails_twice_is_asked_a_third_time() {
    let (_server, proxy, desk) = scene().await;
    let busy = || answer("503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>");
    for asked in [LIST, "/code/p/a.py", "/code/p/large"] {
        let before = proxy.seen(asked).len();
        proxy.order(asked, [busy(), busy()]);
        let done = desk
            .step("pull_from_s3", step(&proxy.url))
            .await
            .expect("pulled");
        assert_eq!((done.files, done.bytes), (2, 7 + (3 << 20)));
        assert_eq!(proxy.seen(asked).len() - before, 3, "{asked}");
    }
}

#[tokio::test]
async fn a_server_that_always_fails_is_given_up_and_leaves_nothing() {
    let (_server, proxy, desk) = scene().await;
    proxy.always("/code/p/large", answer("500 Oops", "", ""));
    let error = desk
        .step("pull_from_s3", step(&proxy.url))
        .await
        .expect_err("given up");
    assert!(
        matches!(error, BlobError::Transient { attempts: 4, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("s3://code/p/large"), "{error}");
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    let (_server, proxy, desk) = scene().await;
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    for (asked, fault) in [
        (LIST, answer("403 Forbidden", "", denied)),
        ("/code/p/a.py", answer("403 Forbidden", "", denied)),
        (
            "/code/p/a.py",
            answer("404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>"),
        ),
        (
            LIST,
            answer(
                "400 Bad Request",
                "",
                "<Error><Code>ExpiredToken</Code></Error>",
            ),
        ),
    ] {
        let before = proxy.seen(asked).len();
        proxy.always(asked, fault.clone());
        let error = desk
            .step("pull_from_s3", step(&proxy.url))
            .await
            .expect_err("refused");
        let told = matches!(error, BlobError::Denied { .. } | BlobError::NotFound { .. });
        assert!(told, "{fault:?}: {error}");
        assert_eq!(proxy.seen(asked).len() - before, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_cut_short_or_changed_on_the_way_is_fetched_again() {
    let (_server, proxy, desk) = scene().await;
    for (asked, fault) in [
        ("/code/p/a.py", Fault::Truncate(3)),
        ("/code/p/large", Fault::Truncate(2 << 20)),
        ("/code/p/a.py", Fault::Corrupt),
        ("/code/p/large", Fault::Corrupt),
        (LIST, Fault::Truncate(100)),
    ] {
        let before = proxy.seen(asked).len();
        proxy.order(asked, [fault.clone()]);
        desk.step("pull_from_s3", step(&proxy.url))
            .await
            .expect("pulled");
        assert_eq!(proxy.seen(asked).len() - before, 2, "{fault:?}");
        let tree = desk.tree();
        assert_eq!(tree["a.py"], "content");
        assert!(tree["large"].len() == 3 << 20 && tree["large"].bytes().all(|byte| byte == b'x'));
    }
    proxy.always("/code/p/a.py", Fault::Corrupt);
    let error = desk
        .step("pull_from_s3", step(&proxy.url))
        .await
        .expect_err("given up");
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[tokio::test]
async fn a_stalled_transfer_ends() {
    let (_server, proxy, mut desk) = scene().await;
    desk.terms.stall = Duration::from_millis(300);
    for (asked, after) in [("/code/p/large", 1 << 20), ("/code/p/a.py", 0), (LIST, 10)] {
        proxy.order(asked, [Fault::Stall(after)]);
        desk.step("pull_from_s3", step(&proxy.url))
            .await
            .expect("pulled at the second try");
        proxy.always(asked, Fault::Stall(after));
        let mut fresh = Desk::new();
        fresh.terms.stall = desk.terms.stall;
        let error = fresh
            .step("pull_from_s3", step(&proxy.url))
            .await
            .expect_err("given up");
        assert!(matches!(error, BlobError::Transient { .. }), "{error}");
        assert!(
            error.to_string().contains("nothing arrived for too long"),
            "{error}"
        );
        assert!(fresh.names().is_empty());
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let (_server, proxy, desk) = scene().await;
    let elsewhere = Faulty::alone().await;
    let location = format!("Location: {}/code\r\n", elsewhere.url);
    for (asked, status) in [
        (LIST, "307 Temporary Redirect"),
        ("/code/p/a.py", "301 Moved"),
        (LIST, "302 Found"),
    ] {
        proxy.always(asked, answer(status, &location, ""));
        let error = desk
            .step("pull_from_s3", step(&proxy.url))
            .await
            .expect_err("refused");
        assert!(matches!(error, BlobError::Permanent { .. }), "{error}");
        assert!(
            error.to_string().contains("credentials are not sent"),
            "{error}"
        );
    }
    assert_eq!(elsewhere.seen(""), Vec::<String>::new());
}

#[tokio::test]
async fn a_bucket_in_another_region_is_asked_there() {
    let (_server, proxy, desk) = scene().await;
    let body = "<Error><Code>PermanentRedirect</Code></Error>";
    proxy.order(
        LIST,
        [answer(
            "301 Moved",
            "x-amz-bucket-region: eu-central-1\r\n",
            body,
        )],
    );
    desk.step("pull_from_s3", step(&proxy.url))
        .await
        .expect("pulled");
    let asked = proxy.seen(LIST);
    assert!(
        asked[0].contains("/us-east-1/s3/aws4_request"),
        "{}",
        asked[0]
    );
    assert!(
        asked[1].contains("/eu-central-1/s3/aws4_request"),
        "{}",
        asked[1]
    );
}

#[tokio::test]
async fn an_interrupted_pull_ends_at_once_and_leaves_nothing() {
    let (_server, proxy, mut desk) = scene().await;
    desk.terms.stall = Duration::from_mins(10);
    proxy.always("/code/p/large", Fault::Stall(1 << 20));
    let pull = desk.step("pull_from_s3", step(&proxy.url));
    let interrupt = async {
        while proxy.seen("/code/p/large").is_empty() {
            tokio::task::yield_now().await;
        }
        desk.operation.cancelled.cancel();
    };
    let both = async { tokio::join!(pull, interrupt).0 };
    let ended = tokio::time::timeout(Duration::from_secs(5), both)
        .await
        .expect("it ends");
    assert!(matches!(ended, Err(BlobError::Interrupted(_))));
    assert!(desk.names().is_empty(), "{:?}", desk.names());
}

#[tokio::test]
async fn a_file_by_http_takes_its_headers_to_its_own_host_only() {
    let (server, proxy, desk) = scene().await;
    let elsewhere = Faulty::before(server.port).await;
    let inputs = json!({
        "url": format!("{}/code/first?query=secret", proxy.url),
        "client_kwargs": {"headers": {"PRIVATE-TOKEN": "hush"}},
    });
    let own = answer("302 Found", "Location: /code/p/a.py\r\n", "");
    let other = answer(
        "302 Found",
        &format!("Location: {}/code/p/a.py\r\n", elsewhere.url),
        "",
    );
    let busy = answer("503 Busy", "", "");
    proxy.order("/code/first", [busy, own, other]);
    let host = proxy.url.trim_start_matches("http://").to_owned();
    for _ in 0..2 {
        let done = desk
            .step("pull_from_remote_storage", inputs.clone())
            .await
            .expect("pulled");
        assert_eq!(done.outputs["directory"], format!("{host}/code"));
        assert_eq!(desk.tree()[&format!("{host}/code/first")], "content");
    }
    assert!(
        proxy
            .seen("")
            .iter()
            .all(|head| head.to_ascii_lowercase().contains("private-token: hush"))
    );
    assert_eq!(elsewhere.seen("").len(), 1);
    assert!(
        !elsewhere.seen("")[0].contains("hush"),
        "{}",
        elsewhere.seen("")[0]
    );
}
