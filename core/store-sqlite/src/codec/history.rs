//! The column `history`.

use serde::{Deserialize, Serialize};
use taskloom_model::{Error, Failure, History, LogLine, Progress, Timestamp};

use super::{Bytes, VERSION, check_version, finite};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    v: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<StoredFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    progress: Vec<StoredProgress>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    log: Vec<StoredLine>,
    #[serde(default, skip_serializing_if = "is_zero")]
    log_dropped: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    children: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replayed: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result_metadata: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFailure {
    kind: String,
    message: String,
    backtrace: String,
    attempt: u32,
    at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredProgress {
    #[serde(with = "finite")]
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLine {
    at: i64,
    level: String,
    message: String,
    attempt: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Stored {
    pub(super) fn from_model(history: &History) -> Self {
        let History {
            errors,
            checkpoint,
            progress,
            log,
            log_dropped,
            children,
            reason,
            replayed,
            result_metadata,
        } = history;
        let failure = |Failure { kind, message, backtrace, attempt, at }: &Failure| StoredFailure {
            kind: kind.clone(),
            message: message.clone(),
            backtrace: backtrace.clone(),
            attempt: *attempt,
            at: at.micros(),
        };
        Self {
            v: VERSION,
            errors: errors.iter().map(failure).collect(),
            checkpoint: checkpoint.as_deref().map(Bytes::from_model),
            progress: progress
                .iter()
                .map(|Progress { value, message, at }| StoredProgress {
                    value: *value,
                    message: message.clone(),
                    at: at.micros(),
                })
                .collect(),
            log: log
                .iter()
                .map(|LogLine { at, level, message, attempt }| StoredLine {
                    at: at.micros(),
                    level: level.clone(),
                    message: message.clone(),
                    attempt: *attempt,
                })
                .collect(),
            log_dropped: *log_dropped,
            children: *children,
            reason: reason.clone(),
            replayed: replayed.map(Timestamp::micros),
            result_metadata: result_metadata.as_deref().map(Bytes::from_model),
        }
    }

    pub(super) fn into_model(self) -> Result<History, Error> {
        check_version("history", self.v)?;
        let failure = |StoredFailure { kind, message, backtrace, attempt, at }| Failure {
            kind,
            message,
            backtrace,
            attempt,
            at: Timestamp::from_micros(at),
        };
        Ok(History {
            errors: self.errors.into_iter().map(failure).collect(),
            checkpoint: self.checkpoint.map(Bytes::into_model).transpose()?,
            progress: self
                .progress
                .into_iter()
                .map(|StoredProgress { value, message, at }| Progress {
                    value,
                    message,
                    at: Timestamp::from_micros(at),
                })
                .collect(),
            log: self
                .log
                .into_iter()
                .map(|StoredLine { at, level, message, attempt }| LogLine {
                    at: Timestamp::from_micros(at),
                    level,
                    message,
                    attempt,
                })
                .collect(),
            log_dropped: self.log_dropped,
            children: self.children,
            reason: self.reason,
            replayed: self.replayed.map(Timestamp::from_micros),
            result_metadata: self.result_metadata.map(Bytes::into_model).transpose()?,
        })
    }
}
