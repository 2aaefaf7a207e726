//! The bus and its subscriptions.
#![allow(clippy::disallowed_methods, reason = "tests wait for real threads")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A deadline that is only met if something is wrong.
fn long() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn bus() -> Events {
    Events::new(0x5EED)
}

fn capacity(capacity: usize) -> SubscriptionOptions {
    SubscriptionOptions { capacity, name: None }
}

fn all(events: &Events) -> Subscription {
    events.subscribe("*", SubscriptionOptions::default()).unwrap()
}

fn publish(events: &Events, number: usize) {
    events.publish(EventKind::TaskStarted, NOW, None, || number.to_string());
}

fn drained(subscription: &Subscription) -> Vec<String> {
    let mut out = Vec::new();
    while subscription.drain(&mut out, 100) > 0 {}
    out.iter().map(|event| short(event)).collect()
}

/// The data; for a notice, how many were dropped.
fn short(event: &Event) -> String {
    match event.kind() {
        Some(EventKind::EventsDropped) => {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            format!("-{}/{}", data["dropped"], data["total"])
        }
        _ => event.data.to_string(),
    }
}

fn counting() -> (Arc<AtomicUsize>, Waker) {
    let calls = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&calls);
    (
        calls,
        Arc::new(move || {
            own.fetch_add(1, Ordering::SeqCst);
        }),
    )
}

#[test]
fn an_event_reaches_those_who_want_it() {
    let events = bus();
    let task = TaskId::from_parts(5, [7; 10]);
    let (tasks, failed, own) = (
        events.subscribe("task.*", SubscriptionOptions::default()).unwrap(),
        events.subscribe("*.failed", SubscriptionOptions::default()).unwrap(),
        events.subscribe("order.*", SubscriptionOptions::default()).unwrap(),
    );
    let everything = all(&events);
    events.publish(EventKind::TaskStarted, NOW, Some(task), || r#"{"a":1}"#);
    events.publish(EventKind::TaskFailed, NOW, Some(task), || "{}");
    events.publish(EventKind::QueuePaused, NOW, None, || "{}");
    events.publish_custom("order.paid", NOW, None, "{}").unwrap();
    events.publish_custom("order.failed", NOW, None, "{}").unwrap();
    let names = |subscription: &Subscription| {
        let mut out = Vec::new();
        subscription.drain(&mut out, usize::MAX);
        out.iter().map(|event| event.name().to_owned()).collect::<Vec<_>>()
    };
    let first = tasks.next(None).unwrap();
    assert_eq!((first.name(), first.kind()), ("task.started", Some(EventKind::TaskStarted)));
    assert_eq!((first.time, first.task, &*first.data), (NOW, Some(task), r#"{"a":1}"#));
    assert_eq!(
        serde_json::from_str::<Value>(&first.to_json()).unwrap(),
        json!({
            "name": "task.started", "id": first.id.to_string(), "time": "2023-11-14T22:13:20.000000Z",
            "task_id": task.to_string(), "data": {"a": 1},
        })
    );
    assert!(Arc::ptr_eq(&first, &everything.next(None).unwrap()), "they share it");
    assert_eq!(names(&tasks), ["task.failed"]);
    assert_eq!(names(&failed), ["task.failed", "order.failed"]);
    assert_eq!(names(&own), ["order.paid", "order.failed"]);
    assert_eq!(names(&everything), ["task.failed", "queue.paused", "order.paid", "order.failed"]);
}

#[test]
fn what_nobody_wants_is_not_written() {
    let events = bus();
    let refuse = || -> &str { panic!("nobody asked for it") };
    events.publish(EventKind::TaskStarted, NOW, None, refuse);
    let subscription = events.subscribe("task.failed", SubscriptionOptions::default()).unwrap();
    events.publish(EventKind::TaskStarted, NOW, None, refuse);
    assert!(events.is_wanted(EventKind::TaskFailed) && !events.is_wanted(EventKind::TaskStarted));
    assert!(events.is_any_wanted(&[EventKind::TaskStarted, EventKind::TaskFailed]));
    let second = events.subscribe("task.*", SubscriptionOptions::default()).unwrap();
    assert!(events.is_wanted(EventKind::TaskStarted));
    drop(second);
    assert!(events.is_wanted(EventKind::TaskFailed) && !events.is_wanted(EventKind::TaskStarted));
    subscription.close();
    assert!(!events.is_any_wanted(EventKind::ALL));
    assert_eq!((events.subscribers(), subscription.is_ended()), (0, true));
}

#[test]
fn own_events_are_checked_whether_or_not_anybody_listens() {
    let events = bus();
    let mut listeners = Vec::new();
    for _ in 0..2 {
        let error = events.publish_custom("task.done", NOW, None, "{}").unwrap_err();
        assert_eq!(error.code(), Code::InvalidOption);
        let error =
            events.publish_custom("order.paid", NOW, None, &"x".repeat(MAX_EVENT_DATA + 1)).unwrap_err();
        assert_eq!(error.code(), Code::PayloadTooLarge);
        listeners.push(all(&events));
    }
}

#[test]
fn routes_of_own_events_follow_the_subscriptions_and_are_bounded() {
    let events = bus();
    let orders = events.subscribe("order.*", capacity(5000)).unwrap();
    for number in 0..MAX_ROUTES * 2 + 10 {
        events.publish_custom(&format!("order.{number}"), NOW, None, "{}").unwrap();
        assert!(events.0.table.read().routes.len() <= MAX_ROUTES);
    }
    assert_eq!(orders.len(), MAX_ROUTES * 2 + 10);
    let late = events.subscribe("order.1", SubscriptionOptions::default()).unwrap();
    events.publish_custom("order.1", NOW, None, "{}").unwrap();
    drop(orders);
    events.publish_custom("order.1", NOW, None, "{}").unwrap();
    assert_eq!(late.len(), 2);
}

#[test]
fn ids_are_unique_and_in_order() {
    let events = bus();
    let subscription = all(&events);
    for number in 0..1000 {
        let time = Timestamp::from_micros(NOW.micros() + number / 10);
        events.publish(EventKind::TaskStarted, time, None, || "{}");
    }
    let mut out = Vec::new();
    subscription.drain(&mut out, usize::MAX);
    // The fraction of a millisecond is told in 4,096 parts, so each microsecond has one of its own.
    assert!(out.is_sorted_by(|one, other| one.id < other.id));
    assert!(out.iter().all(|event| event.id.to_string().as_bytes()[14] == b'7'));
    assert_ne!(id(NOW, 1, 1), id(NOW, 1, 2));
}

#[test]
fn drops_are_told_in_their_place() {
    let events = bus();
    let subscription = events.subscribe("task.started", capacity(3)).unwrap();
    (0..5).for_each(|number| publish(&events, number));
    assert_eq!((subscription.dropped(), subscription.len()), (2, 3));
    assert_eq!(short(&subscription.next(None).unwrap()), "0");
    publish(&events, 5);
    publish(&events, 6);
    assert_eq!(subscription.dropped(), 3);
    assert_eq!(drained(&subscription), ["1", "2", "-2/2", "5", "-1/3"]);
    publish(&events, 7);
    assert_eq!(drained(&subscription), ["7"]);
    let told = |event: &Event| serde_json::from_str::<Value>(&event.data).unwrap();
    (0..4).for_each(|number| publish(&events, number));
    let mut out = Vec::new();
    // Three, and the notice on its own: `max` is kept to.
    assert_eq!((subscription.drain(&mut out, 3), subscription.drain(&mut out, 3)), (3, 1));
    assert_eq!((out[3].name(), out[3].time), ("events.dropped", NOW));
    assert_eq!(
        told(&out[3]),
        json!({"subscriber": "subscriber-1", "pattern": "task.started", "dropped": 1, "total": 4})
    );
    assert_eq!(subscription.drain(&mut out, 3), 0);
    assert_eq!(subscription.drain(&mut out, 0), 0);
}

#[test]
fn a_tiny_buffer_is_not_all_notices() {
    let events = bus();
    let subscription = events.subscribe("task.*", capacity(1)).unwrap();
    let mut seen = Vec::new();
    for number in 0..5 {
        publish(&events, 2 * number);
        publish(&events, 2 * number + 1);
        seen.push(short(&subscription.next(None).unwrap()));
    }
    assert_eq!(seen, ["0", "-1/1", "2", "-3/4", "6"]);
}

#[test]
fn others_hear_of_drops_too() {
    let events = bus();
    let watcher = events.subscribe("events.*", SubscriptionOptions::default()).unwrap();
    let options = SubscriptionOptions { capacity: 1, name: Some("slow \"one\"".into()) };
    let slow = events.subscribe("*", options).unwrap();
    publish(&events, 0);
    publish(&events, 1);
    assert_eq!(drained(&watcher), [""; 0]);
    assert_eq!(drained(&slow), ["0", "-1/1"]);
    assert_eq!(drained(&slow), [""; 0], "its own notice came once");
    let notice = watcher.next(None).unwrap();
    assert!(notice.data.contains(r#""subscriber":"slow \"one\"""#), "{}", notice.data);
}

#[test]
fn many_publishers_lose_nothing_and_keep_their_order() {
    const THREADS: usize = 4;
    const EACH: usize = 20_000;
    let events = bus();
    let subscription = events.subscribe("task.*", capacity(THREADS * EACH)).unwrap();
    let mut next = [0; THREADS];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let events = &events;
            scope.spawn(move || (0..EACH).for_each(|number| publish(events, thread * EACH + number)));
        }
        for _ in 0..THREADS * EACH {
            let event = subscription.next(long()).expect("one was lost");
            let number: usize = event.data.parse().unwrap();
            assert_eq!(number % EACH, next[number / EACH]);
            next[number / EACH] += 1;
        }
    });
    assert_eq!((next, subscription.dropped(), subscription.len()), ([EACH; THREADS], 0, 0));
}

#[test]
fn several_readers_share_the_events() {
    const EVENTS: usize = 20_000;
    let events = bus();
    let subscription = all(&events);
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while subscription.next(None).is_some() {
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for number in 0..EVENTS {
            publish(&events, number);
            while number % 100 == 0 && taken.load(Ordering::SeqCst) <= number {
                std::thread::yield_now();
            }
        }
        events.close_all();
    });
    assert_eq!(taken.load(Ordering::SeqCst), EVENTS);
}

#[test]
fn what_is_missed_and_what_is_read_is_all_that_was_published() {
    const EVENTS: usize = 200_000;
    let events = bus();
    let subscription = events.subscribe("task.started", capacity(64)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..EVENTS).for_each(|number| publish(&events, number));
            events.close_all();
        });
        let (mut next, mut out) = (0, Vec::new());
        while subscription.wait(None) {
            out.clear();
            subscription.drain(&mut out, 10);
            for event in &out {
                // Exactly as many are missing as the notice says.
                match short(event).strip_prefix('-') {
                    Some(notice) => {
                        next += notice.split_once('/').unwrap().0.parse::<usize>().unwrap();
                    }
                    None => {
                        assert_eq!(event.data.parse::<usize>().unwrap(), next);
                        next += 1;
                    }
                }
            }
        }
        assert_eq!(next, EVENTS);
    });
}

#[test]
fn the_waker_is_called_when_there_is_something_new() {
    let events = bus();
    let subscription = events.subscribe("task.started", capacity(2)).unwrap();
    let (calls, waker) = counting();
    let calls = || calls.load(Ordering::SeqCst);
    subscription.set_waker(Some(waker));
    assert_eq!(calls(), 0);
    (0..4).for_each(|number| publish(&events, number));
    assert_eq!(calls(), 1, "from empty to not empty, once");
    let mut out = Vec::new();
    assert_eq!(subscription.drain(&mut out, 2), 2);
    publish(&events, 4);
    assert_eq!(calls(), 1, "the notice was still there");
    assert_eq!(subscription.drain(&mut out, 9), 2);
    publish(&events, 5);
    assert_eq!(calls(), 2);
    let (late_calls, late) = counting();
    subscription.set_waker(Some(late));
    assert_eq!(late_calls.load(Ordering::SeqCst), 1, "something was there already");
    drained(&subscription);
    events.close_all();
    events.close_all();
    assert_eq!((calls(), late_calls.load(Ordering::SeqCst)), (2, 2), "the end is news, once");
}

#[test]
fn a_waker_may_publish_and_panic() {
    let events = bus();
    let subscription = all(&events);
    let own = events.clone();
    subscription.set_waker(Some(Arc::new(move || {
        own.publish(EventKind::TaskFailed, NOW, None, || "{}");
        std::panic::resume_unwind(Box::new("a waker's panic"));
    })));
    publish(&events, 1);
    publish(&events, 2);
    assert_eq!(drained(&subscription), ["1", "{}", "2"]);
    drop(subscription);
    assert!(!events.is_wanted(EventKind::TaskStarted));
}

#[test]
fn dropping_a_subscription_does_not_wake_it() {
    let events = bus();
    let subscription = all(&events);
    let (calls, waker) = counting();
    subscription.set_waker(Some(waker));
    drop(subscription);
    assert_eq!((calls.load(Ordering::SeqCst), Arc::strong_count(&calls)), (0, 1));
}

#[test]
fn closing_wakes_a_reader_that_waits() {
    for round in 0..200 {
        let events = bus();
        let subscription = all(&events);
        let begun = Barrier::new(2);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                begun.wait();
                (subscription.next(None).is_none(), subscription.is_ended())
            });
            // Whether the reader is asleep yet or not, it must come back.
            begun.wait();
            (0..round).for_each(|_| std::thread::yield_now());
            if round % 2 == 0 {
                events.close_all()
            } else {
                subscription.close()
            }
            assert_eq!(reader.join().unwrap(), (true, true));
        });
    }
}

#[test]
fn the_end_comes_after_what_is_left_but_not_after_close() {
    let events = bus();
    let (one, other) = (all(&events), all(&events));
    publish(&events, 1);
    other.close();
    events.close_all();
    assert!(other.next(None).is_none() && other.is_ended() && other.dropped() == 0);
    assert!(!one.is_ended());
    assert_eq!(short(&one.next(None).unwrap()), "1");
    assert!(one.next(None).is_none() && one.is_ended() && !one.wait(None));
    publish(&events, 2);
    assert_eq!(one.len(), 0);
    assert_eq!(events.subscribe("*", capacity(1)).unwrap_err().code(), Code::ShutDown);
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let events = bus();
    let subscription = all(&events);
    let soon = Instant::now() + Duration::from_millis(2);
    assert!(!subscription.wait(Some(soon)));
    assert!(Instant::now() >= soon);
    assert!(subscription.next(Some(soon)).is_none() && !subscription.is_ended());
    publish(&events, 1);
    assert!(subscription.wait(Some(soon)) && subscription.next(Some(soon)).is_some());
}

#[test]
fn bad_options_are_refused() {
    let events = bus();
    assert_eq!(events.subscribe("*", capacity(0)).unwrap_err().code(), Code::InvalidOption);
    assert_eq!(events.subscribe("taks.*", capacity(1)).unwrap_err().code(), Code::InvalidOption);
    assert_eq!(events.subscribers(), 0);
}
