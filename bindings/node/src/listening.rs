//! Subscriptions of an environment: to the events of one engine, or of each that an app opens.
//!
//! One that is for logs is told lines in place of events. Lines are written when they are handed over, on the thread of the
//! environment, so that a subscription's bound holds for them too, and all of them have been handed over when an app's stop is
//! answered. The correlation id of a task that runs here is at hand; that of another one, whose submit was not heard, is
//! read from the store once.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use taskloom_bridge::{JsonLogs, OnOpen};
use taskloom_engine::{Engine, Event, Pattern, Subscription, SubscriptionOptions};
use taskloom_model::Result;

use crate::port::{News, Port};

/// Somebody who listens.
pub(crate) struct Listening {
    number: u32,
    port: Weak<Port>,
    current: Mutex<Option<Arc<Subscription>>>,
    /// Whether it goes on with the next engine when one has ended.
    pub(crate) lasts: bool,
    /// What writes lines, if they are what is wanted.
    logs: Option<Mutex<JsonLogs>>,
    /// Whose tasks they are about.
    engine: Mutex<Weak<Engine>>,
}

impl Listening {
    /// The subscription to the engine that there is.
    pub(crate) fn current(&self) -> Option<Arc<Subscription>> {
        self.current.lock().clone()
    }

    /// Events as lines, if that is what is wanted.
    pub(crate) fn lines(&self, events: &[Arc<Event>]) -> Option<String> {
        let logs = self.logs.as_ref()?;
        let engine = self.engine.lock().upgrade();
        Some(logs.lock().lines(events, engine.as_deref()))
    }

    fn begin(&self, subscription: Subscription) {
        let (port, number) = (self.port.clone(), self.number);
        let subscription = Arc::new(subscription);
        // What the one before had to tell came before the answer of the stop that ended it.
        *self.current.lock() = Some(Arc::clone(&subscription));
        subscription.set_waker(Some(Arc::new(move || {
            if let Some(port) = port.upgrade() {
                port.tell(News::Events(number));
            }
        })));
    }

    /// Nobody listens any more.
    pub(crate) fn end(&self) {
        if let Some(subscription) = self.current.lock().take() {
            subscription.set_waker(None);
            subscription.close();
        }
    }
}

impl Port {
    /// Takes in a subscription; its number.
    pub(crate) fn subscribe(self: &Arc<Self>, subscription: Subscription) -> u32 {
        let listening = self.listener(false, None);
        listening.begin(subscription);
        listening.number
    }

    /// Listens to the engine that there is, and to each that is opened; the subscription's number. With `logs` it hears lines.
    pub(crate) fn listen(
        self: &Arc<Self>,
        on_open: impl FnOnce(OnOpen),
        pattern: &str,
        options: SubscriptionOptions,
        logs: Option<JsonLogs>,
    ) -> Result<u32> {
        // Said now, whether or not there is an engine.
        Pattern::new(pattern)?;
        let listening = self.listener(true, logs);
        let (own, pattern) = (Arc::downgrade(&listening), pattern.to_owned());
        on_open(Box::new(move |engine: &Arc<Engine>| {
            if let Some(own) = own.upgrade()
                && let Ok(subscription) = engine.subscribe(&pattern, options.clone())
            {
                *own.engine.lock() = Arc::downgrade(engine);
                own.begin(subscription);
            }
        }));
        Ok(listening.number)
    }

    fn listener(self: &Arc<Self>, lasts: bool, logs: Option<JsonLogs>) -> Arc<Listening> {
        let port = Arc::downgrade(self);
        let (current, engine, logs) = (Mutex::default(), Mutex::default(), logs.map(Mutex::new));
        let make = |number| Arc::new(Listening { number, port, current, lasts, logs, engine });
        self.listeners.lock().insert_with(make)
    }
}
