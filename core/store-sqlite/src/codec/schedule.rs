//! What was asked for of a schedule, as JSON: the column `spec`. Its name, handler and payload have columns of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskloom_model::{
    CatchUp, Error, Options, Overlap, Priority, Rule, ScheduleSpec, Template, Timestamp, When,
};

use super::{StoredRate, StoredRetry, VERSION, check_version, corrupt};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    v: u32,
    rule: StoredRule,
    overlap: StoredOverlap,
    catch_up: StoredCatchUp,
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    jitter: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    #[serde(default)]
    options: StoredOptions,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum StoredRule {
    Cron { expression: String, tz: String },
    Every(Duration),
    Once(i64),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredOverlap {
    Skip,
    Queue,
    Replace,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredCatchUp {
    None,
    Last,
    All(u32),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StoredOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<StoredRetry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_crashes: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<StoredRate>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    per_key: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requires: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// A time from the firing on. Others are refused of a schedule.
fn span(when: &Option<When>) -> Option<Duration> {
    match when {
        Some(When::In(span)) => Some(*span),
        Some(When::At(_)) | None => None,
    }
}

impl StoredOptions {
    fn from_model(options: &Options) -> Self {
        let Options {
            queue,
            priority,
            expires,
            timeout,
            deadline,
            retries,
            retry,
            max_crashes,
            version,
            tags,
            key,
            concurrency,
            rate,
            per_key,
            requires,
            agent,
            metadata,
            correlation_id,
            traceparent,
            // A schedule refuses these.
            id: _,
            eta: _,
            unique_key: _,
            unique_for: _,
            on_conflict: _,
            depends_on: _,
        } = options;
        Self {
            queue: queue.clone(),
            priority: priority.map(Priority::number),
            expires: span(expires),
            timeout: *timeout,
            deadline: span(deadline),
            retries: *retries,
            retry: retry.map(StoredRetry::from_model),
            max_crashes: *max_crashes,
            version: version.map(|version| version.to_string()),
            tags: tags.clone(),
            key: key.clone(),
            concurrency: *concurrency,
            rate: rate.map(StoredRate::from_model),
            per_key: *per_key,
            requires: requires.clone(),
            agent: agent.clone(),
            metadata: metadata.clone(),
            correlation_id: correlation_id.clone(),
            traceparent: traceparent.clone(),
        }
    }

    fn into_model(self) -> Result<Options, Error> {
        Ok(Options {
            queue: self.queue,
            priority: self.priority.map(Priority::from_number).transpose()?,
            expires: self.expires.map(When::In),
            timeout: self.timeout,
            deadline: self.deadline.map(When::In),
            retries: self.retries,
            retry: self.retry.map(StoredRetry::into_model),
            max_crashes: self.max_crashes,
            version: match self.version {
                Some(text) => Some(text.parse().map_err(|_| corrupt(format!("{text:?} is not a version")))?),
                None => None,
            },
            tags: self.tags,
            key: self.key,
            concurrency: self.concurrency,
            rate: self.rate.map(StoredRate::into_model),
            per_key: self.per_key,
            requires: self.requires,
            agent: self.agent,
            metadata: self.metadata,
            correlation_id: self.correlation_id,
            traceparent: self.traceparent,
            ..Options::default()
        })
    }
}

impl Stored {
    pub(super) fn from_model(spec: &ScheduleSpec) -> Self {
        let ScheduleSpec { name: _, rule, overlap, catch_up, jitter, start, end, template } = spec;
        let Template { handler: _, payload: _, options } = template;
        Self {
            v: VERSION,
            rule: match rule {
                Rule::Cron { expression, tz } => {
                    StoredRule::Cron { expression: expression.clone(), tz: tz.clone() }
                }
                Rule::Every(interval) => StoredRule::Every(*interval),
                Rule::Once(at) => StoredRule::Once(at.micros()),
            },
            overlap: match overlap {
                Overlap::Skip => StoredOverlap::Skip,
                Overlap::Queue => StoredOverlap::Queue,
                Overlap::Replace => StoredOverlap::Replace,
            },
            catch_up: match catch_up {
                CatchUp::None => StoredCatchUp::None,
                CatchUp::Last => StoredCatchUp::Last,
                CatchUp::All(most) => StoredCatchUp::All(*most),
            },
            jitter: *jitter,
            start: start.map(Timestamp::micros),
            end: end.map(Timestamp::micros),
            options: StoredOptions::from_model(options),
        }
    }

    pub(super) fn into_model(
        self,
        name: String,
        handler: String,
        payload: Box<[u8]>,
    ) -> Result<ScheduleSpec, Error> {
        check_version("rule and options", self.v)?;
        Ok(ScheduleSpec {
            name,
            rule: match self.rule {
                StoredRule::Cron { expression, tz } => Rule::Cron { expression, tz },
                StoredRule::Every(interval) => Rule::Every(interval),
                StoredRule::Once(at) => Rule::Once(Timestamp::from_micros(at)),
            },
            overlap: match self.overlap {
                StoredOverlap::Skip => Overlap::Skip,
                StoredOverlap::Queue => Overlap::Queue,
                StoredOverlap::Replace => Overlap::Replace,
            },
            catch_up: match self.catch_up {
                StoredCatchUp::None => CatchUp::None,
                StoredCatchUp::Last => CatchUp::Last,
                StoredCatchUp::All(most) => CatchUp::All(most),
            },
            jitter: self.jitter,
            start: self.start.map(Timestamp::from_micros),
            end: self.end.map(Timestamp::from_micros),
            template: Template { handler, payload, options: self.options.into_model()? },
        })
    }
}
