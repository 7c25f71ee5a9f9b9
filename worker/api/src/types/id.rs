//! Identifiers: one type per kind of thing, so that a flow's id cannot be passed where a flow run's is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random identifier.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

id! {
    /// Names one execution of a flow.
    FlowRunId
    /// Names a flow.
    FlowId
    /// Names a deployment.
    DeploymentId
    /// Names a work pool.
    WorkPoolId
    /// Names a work queue.
    WorkQueueId
    /// Names one stored state of a flow run.
    StateId
    /// Names one proposal of a state, so that its repetition is recognised by the server.
    TransitionId
    /// Names a worker's record on the server.
    WorkerId
    /// Names a block document.
    BlockDocumentId
}
