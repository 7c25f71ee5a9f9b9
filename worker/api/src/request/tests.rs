use std::time::Duration;

use futures::future::join_all;
use serde_json::{Map, json};

use crate::{
    ApiError, Client, Credential, RetryPolicy,
    testing::{self, Reply, TestServer},
    types::{FlowRunId, ProposedState, StateType},
};

/// The error of one call that is answered so.
async fn error_of(reply: Reply) -> ApiError {
    let server = TestServer::start([reply]).await;
    let client = server.client().with_retries(0);
    client.read_work_pool("p").await.unwrap_err()
}

/// How often a call is made that is answered so each time.
async fn tries_of(reply: Reply) -> usize {
    let server = TestServer::start(vec![reply; 20]).await;
    server.client().read_work_pool("p").await.unwrap_err();
    server.asked().len()
}

fn token(text: &str) -> Reply {
    Reply::json(
        200,
        &json!({ "token": text, "client": "x", "expiration": "2026-01-01T00:00:00Z" }),
    )
}

// Answers and errors.

#[tokio::test]
async fn a_refused_credential_says_which_was_sent_and_is_not_repeated() {
    for status in [401, 403] {
        let error = error_of(Reply::detail(status, "Unauthorized")).await;
        assert!(matches!(
            error,
            ApiError::Unauthorized {
                credential: Credential::None,
                ..
            }
        ));
        assert!(error.to_string().contains("PREFECT_API_KEY"), "{error}");
        assert!(!error.is_transient());
        assert_eq!(tries_of(Reply::status(status)).await, 1);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_servers_words() {
    let error = error_of(Reply::detail(404, "Work pool \"p\" not found.")).await;
    assert!(error.is_not_found() && !error.is_transient());
    let text = error.to_string();
    assert!(
        text.starts_with("GET /work_pools/p on 127.0.0.1:"),
        "{text}"
    );
    assert!(
        text.ends_with("not found: Work pool \"p\" not found."),
        "{text}"
    );
}

#[tokio::test]
async fn a_404_of_a_gateway_is_not_the_servers_word() {
    for reply in [
        Reply::status(404),
        Reply::text(404, "<h1>default backend</h1>"),
    ] {
        let error = error_of(reply).await;
        assert!(error.is_transient() && !error.is_not_found(), "{error:?}");
    }
}

#[tokio::test]
async fn a_route_the_server_does_not_have_points_at_the_url() {
    let error = error_of(Reply::detail(404, "Not Found")).await;
    assert!(matches!(error, ApiError::Unexpected { .. }));
    assert!(error.to_string().contains("PREFECT_API_URL"), "{error}");
}

#[tokio::test]
async fn a_conflict_is_one() {
    let error = error_of(Reply::detail(409, "exists")).await;
    assert!(error.is_conflict() && !error.is_transient());
    assert_eq!(tries_of(Reply::status(409)).await, 1);
}

#[tokio::test]
async fn a_request_that_is_not_accepted_says_why() {
    let complaint =
        json!({ "exception_detail": [{ "loc": ["body", "limit"], "msg": "too many" }] });
    let error = error_of(Reply::json(422, &complaint)).await;
    assert!(matches!(error, ApiError::Invalid { .. }));
    assert!(
        error
            .to_string()
            .ends_with("not accepted: body.limit: too many"),
        "{error}"
    );
    assert_eq!(tries_of(Reply::status(422)).await, 1);
}

#[tokio::test]
async fn a_rate_limit_tells_how_long_to_wait() {
    let error = error_of(Reply::status(429).header("retry-after", "7")).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_transient());
    assert_eq!(tries_of(Reply::status(429)).await, 6);
}

#[tokio::test]
async fn a_retry_after_is_waited_for() {
    let reply = Reply::status(429).header("retry-after", "0.001");
    let server = TestServer::start([reply]).await;
    server.client().delete_worker("p", "w").await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn what_may_get_better_is_repeated_and_the_rest_is_not() {
    for (status, tries) in [(408, 6), (502, 6), (503, 6), (500, 1), (504, 1)] {
        assert_eq!(tries_of(Reply::status(status)).await, tries, "{status}");
        let error = error_of(Reply::status(status)).await;
        assert!(matches!(error, ApiError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn further_codes_are_repeated_on_request() {
    let server = TestServer::start([Reply::status(500), Reply::status(504)]).await;
    let client = server.client();
    let client = client.with_retry_policy(RetryPolicy {
        extra_codes: [500, 504].into(),
        ..client.retry.clone()
    });
    client.delete_worker("p", "w").await.unwrap();
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn maintenance_is_told_apart() {
    let reply = Reply::status(503).header("prefect-maintenance", "true");
    let error = error_of(reply.clone()).await;
    assert!(matches!(error, ApiError::Maintenance { .. }) && error.is_transient());
    let server = TestServer::start(vec![reply; 20]).await;
    server.client().delete_worker("p", "w").await.unwrap();
    assert_eq!(server.asked().len(), 21);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_quoted() {
    let garbage = error_of(Reply::text(200, "<html>login</html>")).await;
    assert!(matches!(garbage, ApiError::Unexpected { .. }) && !garbage.is_transient());
    assert!(garbage.to_string().contains("<html>login"), "{garbage}");
    let empty = error_of(Reply::status(200)).await;
    assert!(
        empty.to_string().ends_with("expected JSON, got nothing"),
        "{empty}"
    );
    let shape = error_of(Reply::json(200, &json!({ "id": 3 }))).await;
    assert!(shape.to_string().contains("at 'id'"), "{shape}");
    assert_eq!(tries_of(Reply::text(200, "garbage")).await, 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let server = TestServer::start([Reply::Truncated, Reply::json(200, &json!([]))]).await;
    assert_eq!(server.client().list_work_pools().await.unwrap(), []);
    let error = error_of(Reply::Truncated).await;
    assert!(matches!(error, ApiError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("broke off"), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let error = error_of(Reply::Endless).await;
    assert!(
        error
            .to_string()
            .ends_with("the answer is longer than 32 MiB"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let server = TestServer::start([Reply::Hang, Reply::Hang]).await;
    let mut options = server.options();
    // A read is given a third of it.
    options.request_timeout = Duration::from_millis(60);
    let client = Client::new(options).unwrap();
    let error = client
        .with_retries(0)
        .read_work_pool("p")
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("no answer within 20ms"),
        "{error}"
    );
    // The second one hangs too, the third is answered.
    client.delete_worker("p", "w").await.unwrap();
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn nobody_listening_is_said() {
    // Held, so that nobody else listens there, but not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/api", socket.local_addr().unwrap());
    let client = Client::new(testing::options(&url.parse().unwrap())).unwrap();
    let error = client.read_work_pool("p").await.unwrap_err();
    assert!(matches!(error, ApiError::Unavailable { .. }) && error.is_transient());
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

// What is sent.

#[tokio::test]
async fn a_repeated_request_is_the_same_to_the_byte() {
    let answer = json!({ "state": null, "status": "ACCEPT", "details": {} });
    let server = TestServer::start([
        Reply::status(503),
        Reply::Truncated,
        Reply::status(502),
        Reply::json(201, &answer),
    ])
    .await;
    let proposal = ProposedState::new(StateType::Pending);
    let run = FlowRunId::random();
    server.client().propose_state(run, &proposal).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    for again in &asked {
        assert_eq!(again.method, "POST");
        assert_eq!(again.path, format!("/api/flow_runs/{run}/set_state"));
        assert_eq!(again.headers, asked[0].headers);
        assert_eq!(again.body, asked[0].body);
    }
    let id = proposal.state_details.transition_id.unwrap();
    assert_eq!(
        asked[3].json()["state"]["state_details"]["transition_id"],
        json!(id)
    );
}

#[tokio::test]
async fn names_in_paths_are_encoded() {
    let server = TestServer::start([]).await;
    let client = server.client();
    for name in ["a b", "a/b", "pöol?x=1#y", "%2e", "~-_."] {
        client.delete_worker(name, "w").await.unwrap();
    }
    let paths: Vec<_> = server
        .asked()
        .iter()
        .map(|asked| asked.path.clone())
        .collect();
    let names = ["a%20b", "a%2Fb", "p%C3%B6ol%3Fx%3D1%23y", "%252e", "~-_."];
    assert_eq!(
        paths,
        names.map(|name| format!("/api/work_pools/{name}/workers/w"))
    );
}

#[tokio::test]
async fn a_name_that_would_change_the_path_is_refused() {
    let server = TestServer::start([]).await;
    for name in [".", ".."] {
        let error = server.client().delete_worker(name, "w").await.unwrap_err();
        assert!(matches!(error, ApiError::Invalid { .. }));
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn a_redirect_on_the_same_server_is_followed_with_method_and_body() {
    let moved = Reply::status(307).header("location", "/api/there/");
    let server = TestServer::start([moved]).await;
    let labels = Map::from_iter([("a".to_owned(), json!("b"))]);
    server
        .client()
        .update_labels(FlowRunId::random(), &labels)
        .await
        .unwrap();
    let asked = server.asked();
    assert_eq!(
        (asked[1].method.as_str(), asked[1].path.as_str()),
        ("PATCH", "/api/there/")
    );
    assert_eq!(asked[1].body, asked[0].body);
}

#[tokio::test]
async fn a_redirect_elsewhere_is_told_and_not_followed() {
    let other = TestServer::start([]).await;
    let reply = Reply::status(302).header("location", &format!("{}/login?next=x", other.url));
    let error = error_of(reply).await;
    assert!(matches!(error, ApiError::Unexpected { .. }));
    let text = error.to_string();
    assert!(text.contains("/login; set PREFECT_API_URL"), "{text}");
    assert_eq!(other.asked().len(), 0);
}

#[tokio::test]
async fn a_circle_of_redirects_is_left() {
    let reply = Reply::status(308).header("location", "/api/work_pools/p");
    assert_eq!(tries_of(reply).await, 4);
}

#[tokio::test]
async fn many_requests_at_once_keep_to_the_limit_and_all_succeed() {
    let server = TestServer::start([]).await;
    let client = server.client();
    let calls = (0..200).map(|_| client.delete_worker("p", "w"));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(server.asked().len(), 200);
    assert_eq!(server.csrf_asked(), 1);
}

// Connections.

#[tokio::test]
async fn a_stale_connection_costs_no_try() {
    let (url, _server) = testing::closing_server([1, 1]).await;
    let mut options = testing::options(&url);
    options.csrf_support = false;
    let client = Client::new(options).unwrap().with_retries(0);
    client.delete_worker("p", "w").await.unwrap();
    client.delete_worker("p", "w").await.unwrap();
}

#[tokio::test]
async fn a_server_that_closes_every_connection_is_given_up() {
    let (url, _server) = testing::closing_server([0; 6]).await;
    let client = Client::new(testing::options(&url)).unwrap();
    let error = client.read_work_pool("p").await.unwrap_err();
    assert!(error.to_string().contains("connection was lost"), "{error}");
}

// CSRF.

#[tokio::test]
async fn without_csrf_protection_is_asked_once_for_all_clones() {
    for disabled in [404, 422] {
        let server = TestServer::start([Reply::json(200, &json!([]))]).await;
        server.csrf(Reply::status(disabled));
        let client = server.client();
        client
            .clone()
            .with_retries(0)
            .list_work_pools()
            .await
            .unwrap();
        client.delete_worker("p", "w").await.unwrap();
        assert_eq!((server.csrf_asked(), server.asked().len()), (1, 2));
        assert_eq!(server.asked()[1].header("prefect-csrf-token"), None);
    }
}

#[tokio::test]
async fn reading_needs_no_csrf_token() {
    let server = TestServer::start([Reply::json(200, &json!("3.8.8"))]).await;
    assert_eq!(server.client().read_version().await.unwrap(), "3.8.8");
    assert_eq!(server.csrf_asked(), 0);
}

#[tokio::test]
async fn the_csrf_token_goes_with_each_change() {
    let server = TestServer::start([]).await;
    server.csrf(token("t1"));
    let client = server.client();
    client.delete_worker("p", "w").await.unwrap();
    client.clone().delete_worker("p", "w").await.unwrap();
    let asked = server.asked();
    assert_eq!(server.csrf_asked(), 1);
    for asked in &asked {
        assert_eq!(asked.header("prefect-csrf-token"), Some("t1"));
    }
    let clients: Vec<_> = asked
        .iter()
        .map(|asked| asked.header("prefect-csrf-client"))
        .collect();
    assert!(clients[0].is_some() && clients[0] == clients[1]);
}

#[tokio::test]
async fn an_outdated_csrf_token_is_replaced_without_costing_a_try() {
    let refused = Reply::detail(403, "Invalid CSRF token or client identifier.");
    let server = TestServer::start([Reply::status(204), refused]).await;
    server.csrf(token("t1"));
    let client = server.client().with_retries(0);
    client.delete_worker("p", "w").await.unwrap();
    server.csrf(token("t2"));
    client.delete_worker("p", "w").await.unwrap();
    let asked = server.asked();
    let tokens: Vec<_> = asked
        .iter()
        .map(|asked| asked.header("prefect-csrf-token"))
        .collect();
    assert_eq!(tokens, [Some("t1"), Some("t1"), Some("t2")]);
}

#[tokio::test]
async fn csrf_protection_that_is_turned_on_later_is_noticed() {
    let server = TestServer::start([Reply::status(204)]).await;
    let client = server.client();
    client.delete_worker("p", "w").await.unwrap();
    server.csrf(token("t1"));
    server.then(Reply::detail(403, "Missing CSRF token."));
    client.delete_worker("p", "w").await.unwrap();
    assert_eq!(server.asked()[2].header("prefect-csrf-token"), Some("t1"));
}

#[tokio::test]
async fn a_csrf_token_that_is_never_good_is_given_up() {
    let refused = Reply::detail(403, "Invalid CSRF token or client identifier.");
    let server = TestServer::start(vec![refused; 20]).await;
    server.csrf(token("t1"));
    let error = server.client().delete_worker("p", "w").await.unwrap_err();
    assert!(matches!(error, ApiError::Unauthorized { .. }));
    assert_eq!(server.asked().len(), 7);
}

#[tokio::test]
async fn a_server_that_cannot_give_a_csrf_token_now_is_asked_again() {
    let server = TestServer::start([]).await;
    server.csrf(Reply::status(503));
    let error = server.client().delete_worker("p", "w").await.unwrap_err();
    assert!(
        error.to_string().starts_with("GET /csrf-token on"),
        "{error}"
    );
    assert_eq!((server.csrf_asked(), server.asked().len()), (6, 0));
    server.csrf(token("t1"));
    server.client().delete_worker("p", "w").await.unwrap();
}

#[tokio::test]
async fn csrf_tokens_can_be_turned_off() {
    let server = TestServer::start([]).await;
    let mut options = server.options();
    options.csrf_support = false;
    Client::new(options)
        .unwrap()
        .delete_worker("p", "w")
        .await
        .unwrap();
    assert_eq!(server.csrf_asked(), 0);
}
