//! Events, for those who want to hear of them: on a thread of their own, as an iterator, or awaited.
//!
//! Each subscription has a buffer of 10,000 events; what does not fit is dropped, counted, and told in its place
//! (`events.dropped`). So a slow subscriber never slows a task, nor another subscriber. Events are told at most once, in
//! this process, and only to those who had subscribed before. `docs/events.md` lists them.
//!
//! A subscriber that is a function has a thread of its own. The thread holds the subscription and the function, and not
//! the app; it ends with either.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context as Cx, Poll, Waker};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use taskloom_engine::{EventKind, Subscription, SubscriptionOptions};
use taskloom_model::{Result, TaskId};

use crate::App;
use crate::execute::{decode, encode};
use crate::helpers::guarded;
use crate::time::system_time;

/// How many events a reader takes at once.
const BATCH: usize = 256;

/// A fact about a task, a queue, a worker or the engine; or one of a user's own. A clone is the same one.
#[derive(Clone)]
pub struct Event(Arc<taskloom_engine::Event>);

impl Event {
    /// Its name, such as `task.succeeded`.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Which event of the catalogue it is; `None` for a user's own.
    pub fn kind(&self) -> Option<EventKind> {
        self.0.kind()
    }

    /// Its own id: a UUID of version 7.
    pub fn id(&self) -> TaskId {
        self.0.id
    }

    /// When it happened.
    pub fn time(&self) -> SystemTime {
        system_time(self.0.time)
    }

    /// The task that it is about, if it is about one.
    pub fn task_id(&self) -> Option<TaskId> {
        self.0.task
    }

    /// What there is to say: a JSON object, which `docs/events.md` and [`taskloom::info`](crate::info) describe. Spans of
    /// time in it are seconds.
    ///
    /// Errors: `WrongType` if it is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        decode("the data of the event", self.0.data.as_bytes())
    }

    /// The same, as JSON.
    pub fn data_json(&self) -> &str {
        &self.0.data
    }

    /// All of it as a JSON object: `name`, `id`, `time`, `task_id` and `data`.
    pub fn to_json(&self) -> String {
        self.0.to_json().into()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl App {
    /// Calls a function for each event whose name fits a pattern (`task.succeeded`, `task.*`, `*.failed`, `*`), from now
    /// on, on a thread of its own, one after the other. It may block; what does not fit its buffer of 10,000 meanwhile is
    /// dropped, and it is told how many (`events.dropped`). If it panics, that is told on standard error once, and it is
    /// called again for the next event.
    ///
    /// Dropping what is returned unsubscribes; [`Subscriber::forever`] does not.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use taskloom::{App, Context, TaskError};
    ///
    /// let app = App::open("memory:")?;
    /// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// let (send, events) = channel();
    /// let _subscriber = app.on("task.succeeded", move |event| {
    ///     let _ = send.send(event.task_id());
    /// })?;
    /// let running = app.start()?;
    /// let handle = app.submit("noop", &())?;
    /// assert_eq!(events.recv(), Ok(Some(handle.id())));
    /// running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `InvalidOption` for a pattern that no event can fit; `ShutDown` once stopped; `StoreFailed` if the system
    /// starts no thread.
    pub fn on(&self, pattern: &str, tell: impl FnMut(&Event) + Send + 'static) -> Result<Subscriber> {
        let subscription = Arc::new(self.subscribe(pattern)?);
        let own = Arc::clone(&subscription);
        self.shared.helpers.start("taskloom-events", move || read(&own, tell))?;
        Ok(Subscriber { subscription, forever: false })
    }

    /// The events whose name fits a pattern, from now on, to be iterated over: each step waits for the next one, and the
    /// end comes when the app stops.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    ///
    /// let app = App::open("memory:")?;
    /// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// let events = app.events("task.*")?;
    /// let running = app.start()?;
    /// app.submit("noop", &())?;
    /// running.stop();
    /// let names: Vec<_> = events.map(|event| event.name().to_owned()).collect();
    /// assert_eq!(names, ["task.submitted", "task.started", "task.succeeded"]);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: those of [`App::on`].
    pub fn events(&self, pattern: &str) -> Result<Events> {
        Ok(Events { subscription: self.subscribe(pattern)?, taken: VecDeque::new() })
    }

    /// The events whose name fits a pattern, from now on, to be awaited one by one, on any executor.
    ///
    /// ```
    /// # use taskloom::{App, Context, TaskError};
    /// # fn block_on<T>(future: impl Future<Output = T>) -> T {
    /// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    /// # }
    /// # let app = App::open("memory:")?;
    /// # app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// # let running = app.start()?;
    /// # block_on(async {
    /// let mut events = app.events_async("task.succeeded")?;
    /// app.submit_async("noop", &()).await?;
    /// let event = events.next().await.expect("the app has not stopped");
    /// assert_eq!(event.name(), "task.succeeded");
    /// # Ok::<(), taskloom::Error>(())
    /// # })?;
    /// # running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: those of [`App::on`].
    pub fn events_async(&self, pattern: &str) -> Result<EventStream> {
        let subscription = self.subscribe(pattern)?;
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let own = Arc::clone(&waker);
        subscription.set_waker(Some(Arc::new(move || {
            let waker = own.lock().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        })));
        Ok(EventStream { subscription, waker, taken: VecDeque::new() })
    }

    /// Publishes an event of your own; `data` is written as JSON and should be an object. Its name has two parts or more,
    /// joined by dots, and does not begin with one of Taskloom's words.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// let app = taskloom::App::open("memory:")?;
    /// let mut events = app.events("order.*")?;
    /// app.publish("order.paid", &HashMap::from([("order", 7)]))?;
    /// let event = events.next().unwrap();
    /// assert_eq!((event.name(), event.data_json()), ("order.paid", r#"{"order":7}"#));
    /// assert!(app.publish("task.paid", &()).is_err());
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: `InvalidOption` for a name that it may not have; `NotEncodable`; `PayloadTooLarge` over 64 KiB.
    pub fn publish<T: Serialize + ?Sized>(&self, name: &str, data: &T) -> Result<()> {
        let json = encode("the data of an event", data)?;
        self.shared.engine.publish(name, None, std::str::from_utf8(&json).unwrap_or("null"))
    }

    fn subscribe(&self, pattern: &str) -> Result<Subscription> {
        self.shared.engine.subscribe(pattern, SubscriptionOptions::default())
    }
}

/// A subscriber thread's life.
fn read(subscription: &Subscription, mut tell: impl FnMut(&Event)) {
    let told = AtomicBool::new(false);
    let mut batch = Vec::new();
    while subscription.wait(None) {
        subscription.drain(&mut batch, BATCH);
        for event in batch.drain(..) {
            let what = || format!("a subscriber to {:?}", subscription.pattern());
            guarded(&told, what, || tell(&Event(event)));
        }
    }
}

/// A function that hears of events. Dropping this unsubscribes it: it is called no more, but for an event that it is
/// being told of right now.
#[must_use = "dropping it unsubscribes; call forever() to let it hear of events until the app stops"]
pub struct Subscriber {
    subscription: Arc<Subscription>,
    forever: bool,
}

impl Subscriber {
    /// Leaves it subscribed until the app stops.
    ///
    /// ```
    /// let app = taskloom::App::open("memory:")?;
    /// app.on("task.failed", |event| eprintln!("{}", event.data_json()))?.forever();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn forever(mut self) {
        self.forever = true;
    }

    /// How many events it has missed, because it was too slow.
    pub fn dropped(&self) -> u64 {
        self.subscription.dropped()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if !self.forever {
            self.subscription.close();
        }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subscription.fmt(f)
    }
}

/// Events to iterate over; see [`App::events`].
#[derive(Debug)]
pub struct Events {
    subscription: Subscription,
    taken: VecDeque<Event>,
}

impl Events {
    /// The next event, if one is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.taken.pop_front().or_else(|| {
            take(&self.subscription, &mut self.taken);
            self.taken.pop_front()
        })
    }

    /// How many events were missed, because this was read too slowly.
    pub fn dropped(&self) -> u64 {
        self.subscription.dropped()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if !self.subscription.wait(None) {
                return None;
            }
        }
    }
}

/// Events to be awaited; see [`App::events_async`].
pub struct EventStream {
    subscription: Subscription,
    /// Whom to wake for the next one.
    waker: Arc<Mutex<Option<Waker>>>,
    taken: VecDeque<Event>,
}

impl EventStream {
    /// The next event, waited for; `None` when the app has stopped and all were taken. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same, for those who write futures by hand.
    pub fn poll_next(&mut self, cx: &mut Cx<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.taken.pop_front() {
            return Poll::Ready(Some(event));
        }
        // Registered before it looks, so that nothing can come unseen between the two.
        *self.waker.lock() = Some(cx.waker().clone());
        take(&self.subscription, &mut self.taken);
        match self.taken.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.subscription.is_ended() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// How many events were missed, because this was read too slowly.
    pub fn dropped(&self) -> u64 {
        self.subscription.dropped()
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subscription.fmt(f)
    }
}

fn take(subscription: &Subscription, taken: &mut VecDeque<Event>) {
    let mut batch = Vec::new();
    subscription.drain(&mut batch, BATCH);
    taken.extend(batch.into_iter().map(Event));
}
