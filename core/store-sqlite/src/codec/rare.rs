//! The column `rare`.

use serde::{Deserialize, Serialize};
use taskloom_model::{Error, KeyLimit, Limit, OnConflict, Parent, Rare, Scheduled, Timestamp, Unique};

use super::{StoredRate, StoredRetry, VERSION, check_version, corrupt};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    eta: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<StoredRetry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<StoredUnique>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<StoredKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requires: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<StoredParent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheduled: Option<StoredScheduled>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUnique {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    on_conflict: StoredConflict,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredConflict {
    Return,
    Replace,
    Reject,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<StoredRate>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredParent {
    id: String,
    ordinal: u32,
    detached: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredScheduled {
    schedule: String,
    tick: i64,
}

impl Stored {
    // Both directions take their subject apart field by field, so that a new field of the model does not compile
    // until it has a place on disk.
    pub(super) fn from_model(eta: Option<Timestamp>, rare: &Rare) -> Self {
        let Rare {
            expires,
            deadline,
            retry,
            version,
            tags,
            unique,
            key,
            depends_on,
            requires,
            agent,
            metadata,
            correlation_id,
            traceparent,
            parent,
            scheduled,
        } = rare;
        Self {
            v: VERSION,
            eta: eta.map(Timestamp::micros),
            expires: expires.map(Timestamp::micros),
            deadline: deadline.map(Timestamp::micros),
            retry: retry.map(StoredRetry::from_model),
            version: version.clone(),
            tags: tags.clone(),
            unique: unique.as_ref().map(|Unique { key, until, on_conflict }| StoredUnique {
                key: key.clone(),
                until: until.map(Timestamp::micros),
                on_conflict: match on_conflict {
                    OnConflict::Return => StoredConflict::Return,
                    OnConflict::Replace => StoredConflict::Replace,
                    OnConflict::Reject => StoredConflict::Reject,
                },
            }),
            key: key.as_ref().map(|KeyLimit { key, limit: Limit { concurrency, rate } }| StoredKey {
                key: key.clone(),
                concurrency: *concurrency,
                rate: rate.map(StoredRate::from_model),
            }),
            depends_on: depends_on.iter().map(ToString::to_string).collect(),
            requires: requires.clone(),
            agent: agent.clone(),
            metadata: metadata.clone(),
            correlation_id: correlation_id.clone(),
            traceparent: traceparent.clone(),
            parent: parent.as_ref().map(|Parent { id, ordinal, detached }| StoredParent {
                id: id.to_string(),
                ordinal: *ordinal,
                detached: *detached,
            }),
            scheduled: scheduled.as_ref().map(|Scheduled { schedule, tick }| StoredScheduled {
                schedule: schedule.clone(),
                tick: tick.micros(),
            }),
        }
    }

    pub(super) fn into_model(self) -> Result<(Option<Timestamp>, Rare), Error> {
        check_version("options", self.v)?;
        let id = |text: String| text.parse().map_err(|_| corrupt(format!("{text:?} is not an id")));
        let eta = self.eta.map(Timestamp::from_micros);
        let rare = Rare {
            expires: self.expires.map(Timestamp::from_micros),
            deadline: self.deadline.map(Timestamp::from_micros),
            retry: self.retry.map(StoredRetry::into_model),
            version: self.version,
            tags: self.tags,
            unique: self.unique.map(|StoredUnique { key, until, on_conflict }| Unique {
                key,
                until: until.map(Timestamp::from_micros),
                on_conflict: match on_conflict {
                    StoredConflict::Return => OnConflict::Return,
                    StoredConflict::Replace => OnConflict::Replace,
                    StoredConflict::Reject => OnConflict::Reject,
                },
            }),
            key: self.key.map(|StoredKey { key, concurrency, rate }| KeyLimit {
                key,
                limit: Limit { concurrency, rate: rate.map(StoredRate::into_model) },
            }),
            depends_on: self.depends_on.into_iter().map(id).collect::<Result<_, _>>()?,
            requires: self.requires,
            agent: self.agent,
            metadata: self.metadata,
            correlation_id: self.correlation_id,
            traceparent: self.traceparent,
            parent: match self.parent {
                Some(StoredParent { id: text, ordinal, detached }) => {
                    Some(Parent { id: id(text)?, ordinal, detached })
                }
                None => None,
            },
            scheduled: self.scheduled.map(|StoredScheduled { schedule, tick }| Scheduled {
                schedule,
                tick: Timestamp::from_micros(tick),
            }),
        };
        Ok((eta, rare))
    }
}
