//! What JavaScript asks in a crossing, and how that is let happen: in its order, commands of one kind that follow each other
//! together.

use std::sync::Arc;

use taskloom_engine::Completion;

use crate::failures::{failed, no_app};
use crate::port::{News, Port as Inner};
use crate::requests::request;
use crate::submitting::{Input, Submit};
use crate::wire::{Reader, command, flag};

/// Room is made for so many messages of a kind at once; a crossing seldom has more.
const MANY: usize = 4_096;

/// Lets happen what JavaScript asks.
pub(crate) fn listen(port: &Arc<Inner>, reader: &mut Reader<'_>) {
    while let Some(kind) = reader.word() {
        if hear_one(port, reader, kind).is_none() {
            // A form that only a mistake of ours can have: there is no telling where the next message begins.
            return;
        }
    }
}

fn hear_one(port: &Arc<Inner>, reader: &mut Reader<'_>, kind: u32) -> Option<()> {
    match kind {
        command::SUBMIT => submit(port, reader)?,
        command::SUBMIT_PLAIN => submit_plain(port, reader)?,
        command::SUBMIT_MANY => {
            let [app, handler, flags, count] = reader.words()?;
            let slots = reader.slice(count)?;
            let submit = Submit::read(reader, handler, flags)?;
            let inputs: Vec<Input<'_>> = (0..count)
                .map(|_| {
                    let key = if flags & flag::KEYS == 0 { "" } else { reader.line()? };
                    Some(Input { key: serde_json::from_str(key).ok(), payload: reader.line()?.as_bytes() })
                })
                .collect::<Option<_>>()?;
            submit_together(port, app, &submit, slots, &inputs);
        }
        command::SUBMIT_MANY_PLAIN => {
            let [app, handler, count] = reader.words()?;
            let (each, _) = reader.slice(count.checked_mul(2)?)?.as_chunks();
            let slots: Vec<u32> = each.iter().map(|[slot, _]| *slot).collect();
            let input = |[_, size]: &[u32; 2]| reader.bytes(*size).map(Input::of);
            let inputs: Vec<Input<'_>> = each.iter().map(input).collect::<Option<_>>()?;
            submit_together(port, app, &Submit::plain(handler), &slots, &inputs);
        }
        command::SUBMIT_CHILD => {
            let [job, slot, app, handler, flags] = reader.words()?;
            let submit = Submit::read(reader, handler, flags)?;
            let payload = reader.line()?;
            match port.app(app) {
                Some(seat) => submit.child(port, &seat, job, slot, payload),
                None => port.tell(News::Refused(slot, no_app())),
            }
        }
        command::SUCCEEDED | command::SUCCEEDED_PLAIN => succeeded(port, reader, kind)?,
        command::FAILED => {
            let (job, line) = (reader.word()?, reader.line()?);
            if let Some(completion) = port.end(job) {
                completion.complete(failed(line));
            }
        }
        command::REQUEST => {
            let ([app, number], line) = (reader.words()?, reader.line()?);
            match port.app(app) {
                Some(seat) => request(port, &seat, number, line),
                None => port.tell(News::Answer(number, Err(no_app()))),
            }
        }
        _ => return None,
    }
    Some(())
}

/// A submit, and those that follow it and are of the same kind.
fn submit(port: &Arc<Inner>, reader: &mut Reader<'_>) -> Option<()> {
    let [app, slot, handler, flags] = reader.words()?;
    let submit = Submit::read(reader, handler, flags)?;
    let (mut slots, mut inputs) = (vec![slot], vec![Input::of(reader.line()?.as_bytes())]);
    while flags == 0
        && let Some([command::SUBMIT, next_app, slot, next, 0]) = reader.peek()
        && (next_app, next) == (app, handler)
    {
        reader.words::<5>()?;
        slots.push(slot);
        inputs.push(Input::of(reader.line()?.as_bytes()));
    }
    submit_each(port, app, &submit, &slots, &inputs);
    Some(())
}

/// The same, of those whose payloads JavaScript has written by itself.
fn submit_plain(port: &Arc<Inner>, reader: &mut Reader<'_>) -> Option<()> {
    let [app, slot, handler, size] = reader.words()?;
    // Most often all that follows is of the kind.
    let most = 1 + reader.left(5).min(MANY);
    let (mut slots, mut inputs) = (Vec::with_capacity(most), Vec::with_capacity(most));
    slots.push(slot);
    inputs.push(Input::of(reader.bytes(size)?));
    while let Some([command::SUBMIT_PLAIN, next_app, slot, next, size]) = reader.peek()
        && (next_app, next) == (app, handler)
    {
        reader.words::<5>()?;
        slots.push(slot);
        inputs.push(Input::of(reader.bytes(size)?));
    }
    submit_each(port, app, &Submit::plain(handler), &slots, &inputs);
    Some(())
}

fn submit_each(port: &Arc<Inner>, app: u32, submit: &Submit<'_>, slots: &[u32], inputs: &[Input<'_>]) {
    match port.app(app) {
        Some(seat) => submit.each(port, &seat, slots, inputs),
        None => slots.iter().for_each(|slot| port.tell(News::Refused(*slot, no_app()))),
    }
}

fn submit_together(port: &Arc<Inner>, app: u32, submit: &Submit<'_>, slots: &[u32], inputs: &[Input<'_>]) {
    match port.app(app) {
        Some(seat) => submit.together(port, &seat, slots, inputs),
        None => slots.iter().for_each(|slot| port.tell(News::Refused(*slot, no_app()))),
    }
}

/// A handler has returned, and those have that follow it.
fn succeeded(port: &Arc<Inner>, reader: &mut Reader<'_>, first: u32) -> Option<()> {
    let most = 1 + reader.left(3).min(MANY);
    let (mut jobs, mut results, mut kind) = (Vec::with_capacity(most), Vec::with_capacity(most), first);
    loop {
        jobs.push(reader.word()?);
        results.push(match kind {
            command::SUCCEEDED => reader.line()?.as_bytes(),
            _ => reader.word().and_then(|size| reader.bytes(size))?,
        });
        kind = match reader.peek() {
            Some([next @ (command::SUCCEEDED | command::SUCCEEDED_PLAIN)]) => next,
            _ => break,
        };
        reader.word()?;
    }
    let mut ended = Vec::with_capacity(jobs.len());
    port.succeeded(jobs.into_iter(), |place, end| {
        end.succeed_with(results[place], &mut ended);
    });
    Completion::succeed_all(&mut ended);
    port.tell_settled();
    Some(())
}
