//! Hooks: what a handler's owner wants to be told of its tasks.
//!
//! The engine tells a hook on whatever thread made the commit, which must not wait. So what is to be told is noted
//! there, as it is at that moment, and put into a line; one thread of the app's takes it from there. The thread is started
//! by the first hook that is told, and ends when the app stops, after what is in the line. The line is not bounded:
//! hooks that are slower than their tasks cost memory, but nothing that was committed goes untold in a process that lives.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use taskloom_engine::{Hook, Moment};

use crate::TaskInfo;
use crate::helpers::{Helpers, guarded};

/// A user's hook.
#[derive(Clone)]
pub(crate) struct HookFn(Arc<Own>);

struct Own {
    /// Whether a panic of it has been told.
    told: AtomicBool,
    call: Box<dyn Fn(&TaskInfo) + Send + Sync>,
}

impl HookFn {
    pub(crate) fn new(hook: impl Fn(&TaskInfo) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Own { told: AtomicBool::new(false), call: Box::new(hook) }))
    }
}

/// Something to be told.
type Call = (HookFn, TaskInfo);

/// The line of what is to be told.
pub(crate) struct HookQueue {
    helpers: Arc<Helpers>,
    line: Mutex<Line>,
}

enum Line {
    New,
    Open(Sender<Call>),
    Closed,
}

impl HookQueue {
    pub(crate) fn new(helpers: Arc<Helpers>) -> Self {
        Self { helpers, line: Mutex::new(Line::New) }
    }

    fn push(&self, call: Call) {
        let mut line = self.line.lock();
        if matches!(*line, Line::New) {
            let (sender, calls) = channel::<Call>();
            let life = move || {
                for (hook, info) in calls {
                    let Own { told, call } = &*hook.0;
                    guarded(told, || format!("a hook of handler {:?}", info.name), || call(&info));
                }
            };
            // Without the thread nothing can be told, and the channel, which is closed then, says so.
            let _ = self.helpers.start("taskloom-hooks", life);
            *line = Line::Open(sender);
        }
        if let Line::Open(sender) = &*line {
            let _ = sender.send(call);
        }
    }

    /// Nothing more will come: the thread ends after what is in the line.
    pub(crate) fn close(&self) {
        *self.line.lock() = Line::Closed;
    }
}

/// The hooks of one handler.
pub(crate) struct HandlerHooks {
    queue: Arc<HookQueue>,
    pub(crate) success: Option<HookFn>,
    pub(crate) retry: Option<HookFn>,
    pub(crate) failure: Option<HookFn>,
}

impl HandlerHooks {
    pub(crate) fn new(queue: Arc<HookQueue>) -> Self {
        Self { queue, success: None, retry: None, failure: None }
    }

    pub(crate) fn any(&self) -> bool {
        self.success.is_some() || self.retry.is_some() || self.failure.is_some()
    }
}

impl Hook for HandlerHooks {
    fn tell(&self, task: &taskloom_engine::Handle, moment: Moment) {
        let hook = match moment {
            Moment::Success => &self.success,
            Moment::Retry => &self.retry,
            Moment::Failure => &self.failure,
        };
        if let Some(hook) = hook {
            self.queue.push((hook.clone(), TaskInfo::of(task.task())));
        }
    }
}
