//! One connection to Redis, or to a cluster, that many ask at once. Owns how long an answer is waited for and what
//! kinds of failure there are; refuses to know what is asked and what follows from a failure.
//!
//! Whoever stops waiting leaves nothing in disorder: the client below matches answers to questions by their order, and
//! throws away those that nobody waits for.

use std::time::Duration;

use ::redis::{
    Cmd, ErrorKind, Pipeline, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};
use tokio::{task::JoinSet, time::timeout};

/// Why there is no answer, or none of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// None came in time.
    #[error("timeout")]
    Slow,
    /// There is no connection, or it is of no use any more.
    #[error("{0}")]
    Gone(String),
    /// The answer is an error; its code.
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    /// Whether the answer says that nothing can be written, whatever it is: the memory is full (`OOM`), it is a replica
    /// (`READONLY`), its disk fails (`MISCONF`), or it misses its replicas (`NOREPLICAS`).
    pub(super) fn rests_writes(&self) -> bool {
        matches!(self, Self::Refused(code) if matches!(code.as_str(), "OOM" | "READONLY" | "MISCONF" | "NOREPLICAS"))
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        // Codes and kinds only: what the server says beyond them is its own affair, and may be anything.
        match error.kind() {
            _ if error.is_timeout() => Self::Slow,
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::Refused(error.code().unwrap_or("an error without a code").to_owned())
            }
            ErrorKind::AuthenticationFailed => Self::Refused("authentication failed".into()),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
                Self::Gone("it does not speak Redis' protocol".into())
            }
            ErrorKind::Io if error.is_connection_refusal() => Self::Gone("connection refused".into()),
            ErrorKind::Io if error.is_connection_dropped() => Self::Gone("connection lost".into()),
            ErrorKind::Io => Self::Gone("connection failed".into()),
            _ => Self::Gone(error.category().to_owned()),
        }
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Wire {
    /// To one server.
    One(MultiplexedConnection),
    /// To the servers of a cluster, which it keeps up itself.
    Cluster(ClusterConnection),
}

impl Wire {
    /// Asks once, and waits so long at most.
    pub(super) async fn ask(&self, command: &Cmd, within: Duration) -> Result<Value, Fault> {
        let answer = async {
            match self.clone() {
                Self::One(mut wire) => command.query_async::<Value>(&mut wire).await,
                Self::Cluster(mut wire) => command.query_async::<Value>(&mut wire).await,
            }
        };
        timeout(within, answer).await.map_err(|_| Fault::Slow)?.map_err(Fault::from)
    }

    /// Asks for all at once and waits so long at most, for all of them together. They must not depend on each other: in
    /// a cluster each goes its own way.
    pub(super) async fn ask_all(&self, commands: Vec<Cmd>, within: Duration) -> Result<Vec<Result<(), Fault>>, Fault> {
        let answers = async {
            match self.clone() {
                Self::One(wire) => all_of_one(wire, commands).await,
                Self::Cluster(wire) => Ok(all_of_cluster(wire, commands).await),
            }
        };
        timeout(within, answers).await.map_err(|_| Fault::Slow)?
    }

    /// Whether a lost connection is one of several, and made again below.
    pub(super) fn heals_itself(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

async fn all_of_one(mut wire: MultiplexedConnection, commands: Vec<Cmd>) -> Result<Vec<Result<(), Fault>>, Fault> {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    let count = commands.len();
    for command in commands {
        pipeline.add_command(command);
    }
    let answers = wire.req_packed_commands(&pipeline, 0, count).await?;
    Ok(answers.into_iter().map(|answer| answer.extract_error().map(drop).map_err(Fault::from)).collect())
}

async fn all_of_cluster(wire: ClusterConnection, commands: Vec<Cmd>) -> Vec<Result<(), Fault>> {
    let mut asked = JoinSet::new();
    for command in commands {
        let mut wire = wire.clone();
        asked.spawn(async move { command.query_async::<Value>(&mut wire).await.map(drop).map_err(Fault::from) });
    }
    asked.join_all().await
}

/// The number that a value is, in whatever form.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}

/// The text that a value is.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
