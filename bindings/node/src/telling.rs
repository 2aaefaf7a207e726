//! What JavaScript is told in a crossing: as much of it as there is room for, what is of one kind together.

use std::collections::VecDeque;

use serde_json::{Value, json};
use taskloom_engine::{Handle, Moment};

use crate::failures::{error_json, outcome_json};
use crate::port::{Accepted, News, Port as Inner};
use crate::threads::Errand;
use crate::wire::{Writer, news};

/// How many words the longest message of a fixed length has.
const LONGEST: usize = 10;

/// How many events go into one message.
const EVENTS: usize = 256;

/// Writes down what was accepted, as much as there is room for; that much is taken out.
pub(crate) fn accept(writer: &mut Writer<'_>, accepted: &mut VecDeque<Accepted>) {
    if accepted.is_empty() || !writer.has_room(2 + 5) {
        return;
    }
    let fits = ((writer.room() - 2) / 5).min(accepted.len());
    writer.words(&[news::ACCEPTED, fits as u32]);
    for (slot, id) in accepted.drain(..fits) {
        writer.word(slot);
        writer.id(id);
    }
}

/// Writes down what comes first among the news, with what follows and is of its kind; whether there was room for it.
pub(crate) fn write(port: &Inner, writer: &mut Writer<'_>, news: &mut VecDeque<News>) -> bool {
    let before = news.len();
    port.start_all(news, |one| {
        let Some((job, found, own)) = one else { return writer.has_room(LONGEST) };
        let kind = if own.is_some() { news::START_OWN } else { news::START };
        let (attempt, route) = (found.attempt(), found.route);
        let task = attempt.task();
        writer.words(&[kind, route.app, route.handler, job, attempt.fence().attempt]);
        writer.id(task.id());
        match own {
            Some(slot) => writer.word(slot),
            None => writer.line(&task.spec().payload),
        }
        true
    });
    port.settle_own(news, |one| {
        let Some(slot) = one else { return writer.has_room(LONGEST) };
        writer.words(&[news::SUCCEEDED_OWN, slot]);
        true
    });
    if news.len() < before {
        return true;
    }
    let Some(first) = news.pop_front() else { return true };
    match write_one(port, writer, first) {
        Some(left) => {
            news.push_front(left);
            false
        }
        None => true,
    }
}

/// Writes one thing down; what there is no room for is returned.
fn write_one(port: &Inner, writer: &mut Writer<'_>, news: News) -> Option<News> {
    if !writer.has_room(LONGEST) {
        return Some(news);
    }
    match news {
        News::Refused(slot, error) => {
            writer.words(&[news::REFUSED, slot]);
            line(writer, &error_json(&error));
        }
        // They are told together.
        News::Start(_) => return Some(news),
        News::OwnSettled(end) => match port.free_own_slot(end)? {
            (slot, Some(handle)) => outcome(writer, slot, &handle),
            (slot, None) => writer.words(&[news::SUCCEEDED_OWN, slot]),
        },
        News::Settled(slot) => outcome(writer, slot, &port.free_slot(slot)?),
        News::CallOff(job, why) => {
            writer.words(&[news::CALL_OFF, job]);
            writer.line(why.as_bytes());
        }
        News::Answer(request, Ok(answer)) => {
            writer.words(&[news::ANSWER, request]);
            line(writer, &answer);
        }
        News::Answer(request, Err(error)) => {
            writer.words(&[news::REFUSAL, request]);
            line(writer, &error_json(&error));
        }
        News::Events(number) => {
            let listening = port.listening(number)?;
            let subscription = listening.current()?;
            let mut events = Vec::new();
            let more = subscription.drain(&mut events, EVENTS) == EVENTS;
            let has_ended = !listening.lasts && subscription.is_ended();
            writer.words(&[news::EVENTS, number, u32::from(has_ended)]);
            if let Some(lines) = listening.lines(&events) {
                line(writer, &json!([lines]));
                return more.then_some(News::Events(number));
            }
            writer.line_with(|text| {
                text.push(b'[');
                for (place, event) in events.iter().enumerate() {
                    if place > 0 {
                        text.push(b',');
                    }
                    text.extend_from_slice(event.to_json().as_bytes());
                }
                text.push(b']');
            });
            return more.then_some(News::Events(number));
        }
        News::Blocked(blocked) => {
            writer.word(news::BLOCKED);
            let told = json!({"handlers": blocked.handlers, "millis": blocked.span.as_secs_f64() * 1e3, "isSure": blocked.is_sure});
            line(writer, &told);
        }
        News::Thread(app, errand) => {
            let thread = match errand {
                Errand::Start => 0,
                Errand::End(thread) => thread,
            };
            writer.words(&[news::THREAD, app, thread]);
        }
        News::Hook(told) => {
            let moment = match told.moment {
                Moment::Success => 0,
                Moment::Retry => 1,
                Moment::Failure => 2,
            };
            writer.words(&[news::HOOK, told.app, moment]);
            writer.id(told.id);
            writer.line(told.name.as_bytes());
        }
    }
    None
}

/// What came of a task, for whoever waits in a slot.
fn outcome(writer: &mut Writer<'_>, slot: u32, handle: &Handle) {
    let start = writer.mark();
    writer.words(&[news::SUCCEEDED, slot]);
    let outcome = writer.line_with(|text| handle.read_outcome(text));
    if let Err(error) = outcome {
        writer.take_back(start);
        writer.words(&[news::ENDED, slot]);
        line(writer, &outcome_json(handle, &error));
    }
}

fn line(writer: &mut Writer<'_>, value: &Value) {
    writer.line_with(|text| serde_json::to_writer(text, &json!(value)).unwrap_or_default());
}
