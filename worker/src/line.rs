//! The line between the loop and one life: what the life is told, and what it says.

use tokio::sync::{mpsc, watch};

use worker_drivers::RunKey;

use crate::{
    event::{Event, Observation, Order},
    journal::NotStarted,
};

/// The life's end of the line.
#[derive(Debug)]
pub(crate) struct Line {
    observed_rx: watch::Receiver<Option<Observation>>,
    order_rx: watch::Receiver<Order>,
    events_tx: mpsc::Sender<Event>,
}

/// What a life with a running job is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Of its job.
    Observed(Observation),
    /// To do something more than before.
    Ordered,
}

/// The loop's end of the line. Only the latest observation and the highest order matter, so nothing queues up.
#[derive(Debug)]
pub(crate) struct Reins {
    observed_tx: watch::Sender<Option<Observation>>,
    order_tx: watch::Sender<Order>,
}

/// Makes a line for one life.
pub(crate) fn line(events_tx: mpsc::Sender<Event>) -> (Reins, Line) {
    let (observed_tx, observed_rx) = watch::channel(None);
    let (order_tx, order_rx) = watch::channel(Order::GoOn);
    (
        Reins {
            observed_tx,
            order_tx,
        },
        Line {
            observed_rx,
            order_rx,
            events_tx,
        },
    )
}

// === impl Line ===

impl Line {
    /// What the life is told to do now.
    pub(crate) fn order(&self) -> Order {
        *self.order_rx.borrow()
    }

    /// Whether a life that has not started its job yet may go on, and what becomes of it otherwise.
    pub(crate) fn go_on(&self) -> Result<(), NotStarted> {
        not_started_by(self.order()).map_or(Ok(()), Err)
    }

    /// Does what may be dropped at any point, unless the life is told to end first.
    pub(crate) async fn unless_ended<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, NotStarted> {
        tokio::select! {
            done = work => Ok(done),
            order = self.ordered_to_end() => Err(not_started_by(order).unwrap_or(NotStarted::Cancelled)),
        }
    }

    /// Waits until the life is told to end its job. Dropping the future loses nothing.
    pub(crate) async fn ordered_to_end(&mut self) -> Order {
        above(&mut self.order_rx, Order::GoOn).await
    }

    /// Waits for what a life with a running job is told: what the engine says of the job, or an order that outranks the last one. Dropping the
    /// future loses nothing.
    pub(crate) async fn told(&mut self, last: Order) -> Told {
        let Self {
            observed_rx,
            order_rx,
            events_tx: _,
        } = self;
        tokio::select! {
            observation = observed(observed_rx) => Told::Observed(observation),
            _ = above(order_rx, last) => Told::Ordered,
        }
    }

    /// Has what was told last told again: who heard it may not have waited for it.
    pub(crate) fn tell_again(&mut self) {
        self.observed_rx.mark_changed();
    }

    /// A line for an errand that ends by itself: nobody gives it an order, and it hears nothing of a job. It lasts as long as its reins.
    pub(crate) fn errand(&self) -> (Reins, Self) {
        line(self.teller())
    }

    /// What lets others say something about this life while it listens.
    pub(crate) fn teller(&self) -> mpsc::Sender<Event> {
        self.events_tx.clone()
    }

    /// Says that the infrastructure exists, or that the life does no more than wait for its time: another one may start.
    pub(crate) async fn started(&self, key: RunKey) {
        // When the loop is gone there is nobody to tell.
        drop(self.events_tx.send(Event::Started(key)).await);
    }
}

async fn observed(observed_rx: &mut watch::Receiver<Option<Observation>>) -> Observation {
    loop {
        if observed_rx.changed().await.is_err() {
            return std::future::pending().await;
        }
        let observation = observed_rx.borrow_and_update().clone();
        if let Some(observation) = observation {
            return observation;
        }
    }
}

async fn above(order_rx: &mut watch::Receiver<Order>, last: Order) -> Order {
    // When the loop is gone, so is this life in a moment.
    let order = order_rx
        .wait_for(|now| *now > last)
        .await
        .map(|now| *now)
        .ok();
    match order {
        Some(order) => order,
        None => std::future::pending().await,
    }
}

fn not_started_by(order: Order) -> Option<NotStarted> {
    match order {
        Order::GoOn => None,
        Order::Stop => Some(NotStarted::PutBack(
            "the worker was told to stop".to_owned(),
        )),
        Order::Cancel => Some(NotStarted::Cancelled),
    }
}

// === impl Reins ===

impl Reins {
    pub(crate) fn observe(&self, observation: Observation) {
        self.observed_tx.send_replace(Some(observation));
    }

    pub(crate) fn order(&self, order: Order) {
        self.order_tx.send_replace(order);
    }
}
