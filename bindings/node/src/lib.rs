//! The native half of the npm package.
//!
//! JavaScript sees one class, `Port`, and makes one of it in each of its environments (the main thread, and each worker
//! thread). All traffic goes through `Port.exchange`: JavaScript hands over what it has to say (submits, outcomes of
//! handlers, requests), and is told what there is to hear (tasks to start, results, answers), many of each at once. So a
//! crossing costs once for a batch, and never once for a task. `docs/architecture.md` has the whole picture.
//!
//! | module | owns |
//! | --- | --- |
//! | `port` | what is on its way to one environment, and with `jobs` and `slots` what it runs and waits for |
//! | `exchange` | the class `Port`, and its crossings |
//! | `commands` | what JavaScript asks in a crossing, and lets it happen |
//! | `telling` | what it is told in one |
//! | `wire` | how commands and news are written down |
//! | `lane` | tasks on their way to the environments that run them |
//! | `command` | the command `taskloom` of the package |
//! | `listening` | subscriptions to events |
//! | `seat` | an `App` of one environment |
//! | `submitting` | tasks on their way in |
//! | `testing` | an app on a clock that its test turns |
//! | `requests` | everything else that an app may be asked |
//! | `outbox` | submits as rows of an outbox, and rows as submits |
//! | `schedules` | schedules as JSON, both ways |
//! | `describe` | tasks, figures and events as JSON |
//! | `options` | options and settings from JSON |
//! | `failures` | errors as JSON, both ways |
//! | `threads` | handlers that compute, in threads of their own |
//! | `watchdog` | who blocks an environment |
//! | `words` | JavaScript's memory |
//! | `worker` | a process of `taskloom worker` |
//! | `slab` | a table whose numbers are used again |

#[global_allocator]
static ALLOCATOR: taskloom_allocator::Allocator = taskloom_allocator::Allocator;

mod command;
mod commands;
mod describe;
mod exchange;
mod failures;
mod lane;
mod listening;
mod options;
mod outbox;
mod port;
mod requests;
mod schedules;
mod seat;
mod slab;
mod submitting;
mod telling;
mod testing;
mod threads;
mod watchdog;
mod wire;
mod words;
mod worker;
