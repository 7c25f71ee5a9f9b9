//! Tells the server that this worker lives, and keeps an eye on the pool: its type, its pause, its template.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc};

use worker_api::{
    ApiError, Client,
    types::{WorkPool, WorkPoolCreate},
};
use worker_config::{
    DriverKind,
    template::{BaseJobTemplate, TemplateError},
};

use crate::{event::Event, patience::Patience, services::Services, telemetry::chain};

/// What the worker knows of its pool before it has asked.
#[derive(Clone, Debug)]
pub(crate) struct PoolWish {
    /// The pool's name.
    pub(crate) pool: String,
    /// The type it must have.
    pub(crate) kind: DriverKind,
    /// The template it gets where it has none.
    pub(crate) template: serde_json::Value,
    /// Whether to create it where there is none.
    pub(crate) create: bool,
    /// Whether it gets the template when the worker starts, whatever it has.
    pub(crate) sync_template: bool,
}

/// Why a pool hands out no work to this worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// There is none.
    #[error(
        "work pool '{0}' does not exist; create it with `worker pool create {0}`, or start without --no-create-pool-if-not-found"
    )]
    Missing(String),
    /// It is of another type.
    #[error("work pool '{pool}' is of type '{found}', and this worker serves '{wanted}'")]
    WrongType {
        /// The pool.
        pool: String,
        /// Its type.
        found: String,
        /// Ours.
        wanted: DriverKind,
    },
    /// Its template cannot be used.
    #[error("work pool '{pool}'")]
    Template {
        /// The pool.
        pool: String,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// The API failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// What tells the server that this worker lives, and the loop what the pool says.
pub(crate) struct Heart {
    /// The API.
    pub(crate) client: Client,
    /// What is told of the pool, beyond the loop.
    pub(crate) services: Arc<Services>,
    /// Time between heartbeats.
    pub(crate) interval: Duration,
    /// The pool.
    pub(crate) wish: PoolWish,
    /// The loop.
    pub(crate) events_tx: mpsc::Sender<Event>,
    /// Says that something may be due now.
    pub(crate) soon: Arc<Notify>,
    /// Whether there may come to be a worker channel.
    pub(crate) websockets: bool,
}

/// How long the first heartbeat waits for a channel that is being opened, which sends one too: a server on SQLite takes one of two writes
/// at a time.
const CHANNEL_FIRST: Duration = Duration::from_secs(3);

/// Whether the pool hands out work; why not, if it does not.
#[derive(Clone, Debug, PartialEq)]
enum Offer {
    Open,
    /// Somebody paused it. It is polled all the same: the server hands out nothing, and sees that it is served.
    Paused(String),
    /// This worker cannot serve it as it is.
    Unusable(String),
}

// === impl Heart ===

impl Heart {
    /// Reaches the pool, opens the gate, and sends heartbeats until its owner drops it, which is the last thing that happens to a worker:
    /// while it drains it is still alive. It ends only when the pool is not one that this worker can ever serve.
    pub(crate) async fn beat(mut self) -> PoolError {
        self.client = self.client.with_retries(0);
        let pool = match first_contact(&self.client, &self.wish).await {
            Ok(pool) => pool,
            Err(error) => return error,
        };
        tracing::info!(pool = %pool.name, "Worker '{}' started!", self.services.identity.worker);
        self.services.pool_id.send_replace(Some(pool.id));
        self.services.emitter.started(pool.id.0);
        // While there is a channel, it shows the pool and sends the heartbeats.
        let mut channel_rx = self.services.channel_pool.subscribe();
        let mut told = None;
        let mut seen = Ok(pool);
        let mut wait_for_channel = self.websockets;
        let mut patience = Patience::new();
        loop {
            let offer = self.offer(seen, told.as_ref());
            if told.as_ref() != Some(&offer) {
                self.tell(&offer).await;
                if matches!(told.replace(offer), Some(Offer::Paused(_))) {
                    // What became due while the pool was paused was never found.
                    self.soon.notify_one();
                }
            }
            if wait_for_channel {
                wait_for_channel = false;
                let opened = channel_rx.wait_for(Option::is_some);
                tokio::time::timeout(CHANNEL_FIRST, opened).await.ok();
            }
            let has_channel = channel_rx.borrow_and_update().is_some();
            // One that is lost is made good soon: the server shows a worker as gone that it has not heard of for three intervals.
            let is_heard = has_channel || self.send_heartbeat().await;
            if is_heard {
                patience = Patience::new();
            }
            let pause = async {
                if is_heard {
                    tokio::time::sleep(self.interval).await;
                } else {
                    tokio::time::timeout(self.interval, patience.wait())
                        .await
                        .ok();
                }
            };
            tokio::select! {
                () = pause => {}
                // The channel has shown a change, has come, or has gone. Without its sender there is none.
                Ok(()) = channel_rx.changed() => {}
            }
            let shown = channel_rx.borrow_and_update().clone();
            seen = self.look(shown).await;
        }
    }

    async fn tell(&self, offer: &Offer) {
        self.services.board.paused(match offer {
            Offer::Paused(reason) => Some(reason.clone()),
            Offer::Open | Offer::Unusable(_) => None,
        });
        let closed = match offer {
            Offer::Open => None,
            Offer::Paused(reason) | Offer::Unusable(reason) => {
                tracing::warn!(reason, "claiming nothing");
                matches!(offer, Offer::Unusable(_)).then(|| reason.clone())
            }
        };
        // Without a loop there is nobody to tell, and this task ends with it.
        self.events_tx.send(Event::Pool(closed)).await.ok();
    }

    /// What the pool offers, as it was seen last.
    fn offer(&self, seen: Result<WorkPool, PoolError>, told: Option<&Offer>) -> Offer {
        match seen {
            Ok(pool) => {
                // A pool that was deleted and made anew has another id.
                let id = Some(pool.id);
                self.services.pool_id.send_if_modified(|now| {
                    let changed = *now != id;
                    *now = id;
                    changed
                });
                if pool.is_paused {
                    Offer::Paused(format!("work pool '{}' is paused", pool.name))
                } else {
                    Offer::Open
                }
            }
            // An outage is the poller's to see; it does not close the pool.
            Err(PoolError::Api(error)) => {
                tracing::debug!(error = %chain(&error), "the pool cannot be read");
                told.cloned().unwrap_or(Offer::Open)
            }
            Err(error) => Offer::Unusable(chain(&error)),
        }
    }

    /// The pool as the channel shows it, else as a request does.
    async fn look(&self, shown: Option<WorkPool>) -> Result<WorkPool, PoolError> {
        match shown {
            Some(pool) => usable(&self.client, &self.wish, pool).await,
            None => ready(&self.client, &self.wish).await,
        }
    }

    /// Whether the server has heard it.
    async fn send_heartbeat(&self) -> bool {
        let worker = &self.services.identity.worker;
        let sent = self
            .client
            .send_heartbeat(&self.wish.pool, worker, self.interval)
            .await;
        self.services.metrics.heartbeat(sent.is_ok());
        if let Err(error) = &sent {
            tracing::warn!(error = %chain(error), "heartbeat not sent");
        }
        sent.is_ok()
    }
}

/// Asks for the pool until the API answers: an API that is down or refuses is no reason to end, a pool that cannot be served is.
async fn first_contact(client: &Client, wish: &PoolWish) -> Result<WorkPool, PoolError> {
    let mut patience = Patience::new();
    loop {
        match begun(client, wish).await {
            Ok(pool) => return Ok(pool),
            Err(PoolError::Api(error)) => complain(&error),
            // Its template can be mended while the worker waits, and until then nothing is claimed from it.
            Err(PoolError::Template { pool: _, source }) => {
                tracing::error!(error = %chain(&source), "the work pool cannot be used yet");
            }
            Err(error) => return Err(error),
        }
        patience.wait().await;
    }
}

/// The pool as it is to be when the worker starts. Later changes of its template are left alone.
async fn begun(client: &Client, wish: &PoolWish) -> Result<WorkPool, PoolError> {
    let pool = ready(client, wish).await;
    let wanted = match &pool {
        Ok(pool) => wish.sync_template && pool.base_job_template != wish.template,
        Err(PoolError::Template { .. }) => wish.sync_template,
        Err(_) => false,
    };
    if !wanted {
        return pool;
    }
    client
        .update_work_pool_template(&wish.pool, &wish.template)
        .await?;
    tracing::info!(pool = %wish.pool, "the work pool has the base job template of this worker now");
    ready(client, wish).await
}

/// Says that the pool could not be read and that this is tried again. What passes by itself is no error.
pub(crate) fn complain(error: &ApiError) {
    const WHAT: &str = "the work pool cannot be read yet; trying again";
    let transient = error.is_transient();
    let error = chain(error);
    if transient {
        tracing::warn!(%error, "{WHAT}");
    } else {
        tracing::error!(%error, "{WHAT}");
    }
}

/// Makes sure that the pool exists, is of our type, and has a template that can be used; fills in an empty one.
pub(crate) async fn ready(client: &Client, wish: &PoolWish) -> Result<WorkPool, PoolError> {
    let pool = match client.read_work_pool(&wish.pool).await {
        Err(error) if error.is_not_found() && wish.create => create(client, wish).await?,
        Err(error) if error.is_not_found() => return Err(PoolError::Missing(wish.pool.clone())),
        read => read?,
    };
    usable(client, wish, pool).await
}

/// Makes sure that a pool is of our type and has a template that can be used; fills in an empty one.
async fn usable(client: &Client, wish: &PoolWish, pool: WorkPool) -> Result<WorkPool, PoolError> {
    if pool.kind != wish.kind.as_str() {
        return Err(PoolError::WrongType {
            pool: pool.name,
            found: pool.kind,
            wanted: wish.kind,
        });
    }
    match BaseJobTemplate::parse(&pool.base_job_template) {
        Ok(_) => Ok(pool),
        Err(TemplateError::Empty) => {
            client
                .update_work_pool_template(&wish.pool, &wish.template)
                .await?;
            Ok(pool)
        }
        Err(source) => Err(PoolError::Template {
            pool: pool.name,
            source,
        }),
    }
}

async fn create(client: &Client, wish: &PoolWish) -> Result<WorkPool, ApiError> {
    let request = WorkPoolCreate {
        name: wish.pool.clone(),
        kind: wish.kind.as_str().to_owned(),
        description: None,
        base_job_template: Some(wish.template.clone()),
        is_paused: false,
        concurrency_limit: None,
    };
    match client.create_work_pool(&request).await {
        Ok(pool) => {
            tracing::info!(pool = %pool.name, "Work pool '{}' created.", pool.name);
            Ok(pool)
        }
        // Another worker was faster: one pool is what both wanted.
        Err(error) if error.is_conflict() => client.read_work_pool(&wish.pool).await,
        Err(error) => Err(error),
    }
}
