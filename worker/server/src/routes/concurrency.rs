//! `/v2/concurrency_limits`: global limits and the leases on their slots, those of deployments among them; and
//! `/concurrency_limits`, the limits of tags, which are global limits of a certain name.
//!
//! A name that no limit has restricts nobody.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, made};
use crate::{
    body::{Body, Params},
    error::Error,
    store::{
        Tx,
        filter::Page,
        leases,
        limits::{self, LimitCreate, LimitUpdate, LimitView, Wanted},
    },
};

#[derive(Debug, Deserialize)]
struct Renewal {
    lease_duration: f64,
}

#[derive(Debug, Deserialize)]
struct Release {
    slots: u32,
    names: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct LeaseRelease {
    lease_id: Uuid,
}

#[derive(Debug, Deserialize)]
struct TagLimit {
    tag: String,
    concurrency_limit: u32,
    #[serde(default)]
    active_slots: Option<Vec<Uuid>>,
}

#[derive(Debug, Default, Deserialize)]
struct Reset {
    #[serde(default)]
    slot_override: Option<Vec<Uuid>>,
}

/// What the reference allows a lease to last (3.8.8).
const DURATION: std::ops::RangeInclusive<f64> = 60.0..=86_400.0;
/// How long a lease lasts when nobody says (3.8.8).
const DEFAULT_DURATION: f64 = 300.0;
/// What the names of the limits of tags begin with.
const TAG: &str = "tag:";

type Answer = Result<Json<Value>, Error>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/concurrency_limits/", post(create))
        .route("/v2/concurrency_limits/filter", post(list))
        .route(
            "/v2/concurrency_limits/{key}",
            get(read).patch(update).delete(remove),
        )
        .route("/v2/concurrency_limits/increment", post(acquire))
        .route("/v2/concurrency_limits/decrement", post(release))
        .route(
            "/v2/concurrency_limits/increment-with-lease",
            post(acquire_with_lease),
        )
        .route(
            "/v2/concurrency_limits/decrement-with-lease",
            post(release_lease),
        )
        .route("/v2/concurrency_limits/leases/{id}/renew", post(renew))
        .route("/concurrency_limits/", post(create_of_tag))
        .route("/concurrency_limits/filter", post(list_of_tags))
        .route(
            "/concurrency_limits/tag/{tag}",
            get(read_of_tag).delete(remove_of_tag),
        )
        .route("/concurrency_limits/tag/{tag}/reset", post(reset_of_tag))
}

async fn create(
    State(app): State<App>,
    Body(limit): Body<LimitCreate>,
) -> Result<(StatusCode, Json<LimitView>), Error> {
    let view = app.store.run(move |tx| limits::create(tx, &limit)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

async fn read(
    State(app): State<App>,
    Params(key): Params<String>,
) -> Result<Json<LimitView>, Error> {
    app.store
        .run(move |tx| limits::read(tx, &key))
        .await
        .map(Json)
}

async fn list(
    State(app): State<App>,
    Body(page): Body<Page>,
) -> Result<Json<Vec<LimitView>>, Error> {
    app.store
        .run(move |tx| limits::list(tx, "", page))
        .await
        .map(Json)
}

async fn update(
    State(app): State<App>,
    Params(key): Params<String>,
    Body(update): Body<LimitUpdate>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| limits::update(tx, &key, &update))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(State(app): State<App>, Params(key): Params<String>) -> Result<StatusCode, Error> {
    app.store.run(move |tx| limits::delete(tx, &key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn acquire(State(app): State<App>, Body(wanted): Body<Wanted>) -> Answer {
    check(wanted.slots, &wanted.names)?;
    let (limits, _) = app
        .store
        .run(move |tx| limits::acquire(tx, &wanted, None))
        .await?;
    Ok(Json(brief(&limits)))
}

async fn acquire_with_lease(State(app): State<App>, Body(wanted): Body<Wanted>) -> Answer {
    check(wanted.slots, &wanted.names)?;
    let duration = duration(wanted.lease_duration.unwrap_or(DEFAULT_DURATION))?;
    let (limits, lease) = app
        .store
        .run(move |tx| limits::acquire(tx, &wanted, Some(duration)))
        .await?;
    Ok(Json(json!({ "lease_id": lease, "limits": brief(&limits) })))
}

async fn release(State(app): State<App>, Body(given): Body<Release>) -> Answer {
    check(given.slots, &given.names)?;
    let limits = app
        .store
        .run(move |tx| limits::release(tx, &given.names, given.slots))
        .await?;
    Ok(Json(brief(&limits)))
}

async fn release_lease(
    State(app): State<App>,
    Body(given): Body<LeaseRelease>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| limits::release_lease(tx, given.lease_id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn renew(
    State(app): State<App>,
    Params(lease): Params<Uuid>,
    Body(renewal): Body<Renewal>,
) -> Result<StatusCode, Error> {
    let duration = duration(renewal.lease_duration)?;
    app.store
        .run(move |tx| leases::renew(tx, lease, duration))
        .await?;
    Ok(StatusCode::OK)
}

async fn create_of_tag(
    State(app): State<App>,
    Body(given): Body<TagLimit>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let answer = app
        .store
        .run(move |tx| {
            let name = format!("{TAG}{}", given.tag);
            let known = limits::read(tx, &name).is_ok();
            let slots = given
                .active_slots
                .map(|slots| u32::try_from(slots.len()).unwrap_or(u32::MAX));
            if known {
                let update = LimitUpdate::limit(given.concurrency_limit);
                limits::update(tx, &name, &update)?;
            } else {
                let limit = LimitCreate {
                    name: name.clone(),
                    limit: given.concurrency_limit,
                    active: true,
                    active_slots: slots.unwrap_or(0),
                    _denied_slots: 0,
                    slot_decay_per_second: 0.0,
                };
                limits::create(tx, &limit)?;
            }
            Ok((of_tag(tx, &limits::read(tx, &name)?)?, !known))
        })
        .await?;
    Ok(made(answer))
}

async fn read_of_tag(State(app): State<App>, Params(tag): Params<String>) -> Answer {
    app.store
        .run(move |tx| {
            let limit = limits::read(tx, &format!("{TAG}{tag}"))?;
            of_tag(tx, &limit)
        })
        .await
        .map(Json)
}

async fn list_of_tags(
    State(app): State<App>,
    Body(page): Body<Page>,
) -> Result<Json<Vec<Value>>, Error> {
    app.store
        .run(move |tx| {
            let limits = limits::list(tx, TAG, page)?;
            limits.iter().map(|limit| of_tag(tx, limit)).collect()
        })
        .await
        .map(Json)
}

async fn reset_of_tag(
    State(app): State<App>,
    Params(tag): Params<String>,
    Body(reset): Body<Reset>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| {
            let slots = reset.slot_override.map_or(0, |slots| slots.len());
            let update = LimitUpdate::active_slots(slots);
            limits::update(tx, &format!("{TAG}{tag}"), &update)
        })
        .await?;
    Ok(StatusCode::OK)
}

async fn remove_of_tag(
    State(app): State<App>,
    Params(tag): Params<String>,
) -> Result<StatusCode, Error> {
    app.store
        .run(move |tx| limits::delete(tx, &format!("{TAG}{tag}")))
        .await?;
    Ok(StatusCode::OK)
}

/// The limit of a tag, as clients know it that ask by tag: the ids of who holds a slot in the place of their number.
fn of_tag(tx: &Tx<'_>, limit: &LimitView) -> Result<Value, Error> {
    let mut view = serde_json::to_value(limit)?;
    view["tag"] = limit.name.strip_prefix(TAG).unwrap_or(&limit.name).into();
    view["concurrency_limit"] = limit.limit.into();
    view["active_slots"] = json!(limits::holders(tx, &limit.id)?);
    Ok(view)
}

fn brief(limits: &[LimitView]) -> Value {
    limits.iter().map(LimitView::brief).collect()
}

fn check(slots: u32, names: &[String]) -> Result<(), Error> {
    if slots == 0 {
        return Err(Error::field(&["slots"], "Input should be greater than 0"));
    }
    if names.is_empty() {
        return Err(Error::field(
            &["names"],
            "List should have at least 1 item after validation, not 0",
        ));
    }
    Ok(())
}

fn duration(seconds: f64) -> Result<SignedDuration, Error> {
    if !DURATION.contains(&seconds) {
        return Err(Error::field(
            &["lease_duration"],
            "Input should be between 60 and 86400 seconds",
        ));
    }
    Ok(SignedDuration::try_from_secs_f64(seconds).unwrap_or_default())
}
