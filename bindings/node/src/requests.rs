//! Everything that an app may be asked besides running tasks: each is a name with arguments in JSON, and an answer in
//! JSON.
//!
//! In memory an answer is at hand, and is given in the same crossing. What may wait for a disk, or for handlers that run
//! on the asking thread (`stop`), is done by another thread, and the answer is news.

use std::sync::Arc;

use serde_json::{Value, json};
use taskloom_bridge::{JsonLogs, Limit, discard, limit_for, limits, replay};
use taskloom_engine::{Engine, Handle, Stop, SubscriptionOptions, spawn_thread};
use taskloom_model::{Code, Error, Name, Result, TaskId};
use taskloom_store::Filter;

use crate::failures::{millis, parsed};
use crate::options::options_of;
use crate::port::{News, Port};
use crate::seat::Seat;
use crate::{describe, outbox, schedules};

/// Has a request answered, now or later.
pub(crate) fn request(port: &Arc<Port>, seat: &Arc<Seat>, request: u32, line: &str) {
    let asked = match parsed(line) {
        Ok(asked) => asked,
        Err(error) => return port.tell(News::Answer(request, Err(error))),
    };
    let name = asked["do"].as_str().unwrap_or_default().to_owned();
    let (own, place) = (Arc::clone(port), Arc::clone(seat));
    // What happens after a subscription must be heard, and submits are handed in at once.
    let (stops, is_at_once) = (name == "stop", matches!(name.as_str(), "subscribe" | "listen"));
    let answer = move || {
        let answer = answer(&own, &place, &name, &asked);
        own.tell(News::Answer(request, answer));
    };
    if stops {
        // It waits for handlers, and others must be answered meanwhile.
        if let Err(error) = spawn_thread("taskloom-stop", answer) {
            let error =
                Error::new(Code::StoreFailed, "there is no thread to stop the app on").caused_by(error);
            port.tell(News::Answer(request, Err(error)));
        }
    } else if seat.may_wait() && !is_at_once {
        seat.send(answer);
    } else {
        answer();
    }
}

fn answer(port: &Arc<Port>, seat: &Arc<Seat>, name: &str, asked: &Value) -> Result<Value> {
    match name {
        "start" => return seat.start().map(|()| Value::Null),
        "stop" => {
            let how = asked["timeout"].as_f64().and_then(millis).map_or(Stop::Finish, Stop::Within);
            seat.stop(how);
            return Ok(Value::Null);
        }
        "health" => {
            return Ok(seat.current().map_or(Value::Null, |engine| describe::health(&engine.health())));
        }
        "listen" => {
            let pattern = text(asked, "pattern").unwrap_or_default();
            let logs =
                |thread| JsonLogs::new(text(asked, "environment").unwrap_or_default().to_owned(), thread);
            let logs = text(asked, "logs").map(|thread| logs(thread.to_owned()));
            return port
                .listen(|then| seat.on_open(then), pattern, subscription(asked), logs)
                .map(Value::from);
        }
        "outboxTell" => {
            if let Some(engine) = seat.current() {
                outbox::tell(&engine, asked);
            }
            return Ok(Value::Null);
        }
        "saveCheckpoint" => {
            let value = asked["value"].as_str().map(|json| Box::from(json.as_bytes()));
            let job = asked["job"].as_u64().and_then(|job| u32::try_from(job).ok()).unwrap_or(u32::MAX);
            let attempt = port.attempt(job).ok_or_else(over)?;
            return attempt.save_checkpoint(value).map(|()| Value::Null);
        }
        _ => {}
    }
    let engine = seat.engine()?;
    if let Some(answer) = schedules::answer(&engine, name, asked) {
        if name == "removeSchedule" && answer.is_ok() {
            seat.forget_schedule(text(asked, "name").unwrap_or_default());
        }
        return answer;
    }
    Ok(match name {
        "get" => found(&engine, asked)?.map_or(Value::Null, |handle| describe::task(handle.task())),
        "watch" => {
            let slot = asked["slot"].as_u64().and_then(|slot| u32::try_from(slot).ok()).unwrap_or(0);
            found(&engine, asked)?
                .is_some_and(|handle| {
                    port.expect(slot, handle);
                    true
                })
                .into()
        }
        "children" => match found(&engine, asked)? {
            Some(handle) => handles(&handle.children()?),
            None => json!([]),
        },
        "list" => handles(&engine.list(&filter(asked)?)?),
        "cancel" => engine.cancel(id(asked)?, text(asked, "reason"))?.into(),
        "cancelAll" => engine.cancel_all(&filter(asked)?, text(asked, "reason"))?.into(),
        "pause" => engine.pause(queue(asked))?.into(),
        "resume" => engine.resume(queue(asked))?.into(),
        "purge" => engine.purge(queue(asked))?.into(),
        "replay" => replay(&engine, one(asked)?, &filter(asked)?)?.into(),
        "discard" => discard(&engine, one(asked)?, &filter(asked)?)?.into(),
        "limit" => {
            let owned = |name: &str| text(asked, name).map(str::to_owned);
            let what = limit_for(text(asked, "name"), text(asked, "queue"), owned("key"));
            engine.limit(what, options_of(&asked["limit"])?.limit())?.into()
        }
        "limits" => limits(&engine)?.into_iter().map(limit).collect(),
        "sweep" => engine.sweep(asked["olderThan"].as_f64().and_then(millis).unwrap_or_default())?.into(),
        "runNow" => describe::task(engine.run_now(id(asked)?)?.task()),
        "stats" => describe::stats(&engine.stats()?),
        "unfinished" => {
            let is_left = |name: &Value| {
                let name = name.as_str().map(Name::new);
                Ok::<_, Error>(
                    !engine
                        .list(&Filter { name, unfinished: true, limit: 1, ..Filter::default() })?
                        .is_empty(),
                )
            };
            let names = asked["names"].as_array().into_iter().flatten();
            names.map(is_left).find(|left| !matches!(left, Ok(false))).unwrap_or(Ok(false))?.into()
        }
        "outboxRelay" => outbox::relayed(&engine, asked)?,
        "handlers" => describe::handlers(&engine),
        "publish" => {
            let name = text(asked, "name").unwrap_or_default();
            engine.publish(name, None, text(asked, "data").unwrap_or("null"))?;
            Value::Null
        }
        "subscribe" => {
            let pattern = text(asked, "pattern").unwrap_or_default();
            port.subscribe(engine.subscribe(pattern, subscription(asked))?).into()
        }
        other => {
            return Err(Error::new(Code::NotAvailable, format!("{other} is not available in this version")));
        }
    })
}

fn over() -> Error {
    Error::new(Code::LeaseLost, "this attempt is over: what it tells now is not taken")
}

fn handles(handles: &[Handle]) -> Value {
    handles.iter().map(|handle| describe::task(handle.task())).collect()
}

fn text<'a>(asked: &'a Value, name: &str) -> Option<&'a str> {
    asked[name].as_str()
}

fn subscription(asked: &Value) -> SubscriptionOptions {
    let mut options = SubscriptionOptions::default();
    if let Some(capacity) = asked["capacity"].as_u64() {
        options.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    }
    options
}

/// The task that it is about, if it is about one.
fn one(asked: &Value) -> Result<Option<TaskId>> {
    text(asked, "id").map(str::parse).transpose()
}

fn limit(limit: Limit) -> Value {
    let Limit { name, queue, key, concurrency, rate, declared } = limit;
    json!({
        "name": name,
        "queue": queue,
        "key": key,
        "concurrency": concurrency,
        "rate": rate,
        "declared": declared,
    })
}

fn id(asked: &Value) -> Result<TaskId> {
    text(asked, "id").unwrap_or_default().parse()
}

fn queue(asked: &Value) -> Name {
    Name::new(text(asked, "queue").unwrap_or_default())
}

/// A task as it is now, whichever process changed it.
fn found(engine: &Engine, asked: &Value) -> Result<Option<Handle>> {
    let handle = engine.get(id(asked)?)?;
    if let Some(handle) = &handle {
        handle.refresh();
    }
    Ok(handle)
}

fn filter(asked: &Value) -> Result<Filter> {
    let usual = Filter::default();
    Ok(Filter {
        state: text(asked, "state").map(str::parse).transpose()?,
        queue: text(asked, "queue").map(Name::new),
        name: text(asked, "name").map(Name::new),
        tag: text(asked, "tag").map(str::to_owned),
        unfinished: asked["unfinished"].as_bool().unwrap_or(false),
        after: text(asked, "after").map(str::parse).transpose()?,
        limit: asked["limit"]
            .as_u64()
            .map_or(usual.limit, |limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        ..usual
    })
}
