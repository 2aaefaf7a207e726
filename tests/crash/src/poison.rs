//! A worker process with a task that kills it: `taskloom-poison FILE`.
//!
//! The tasks `poison` and `neighbour` are in the file already, one and [`NEIGHBOURS`]. In its first two attempts the poison
//! waits for its neighbours to run beside it, and these never come back; so all of them die together. In its third it
//! waits for company for a moment, and then kills the process with whoever is there. A neighbour that has been through
//! this twice is done in its third attempt, as soon as the poison is there, or after a moment.

use std::error::Error;
use std::io::Read;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use taskloom::{App, Context, TaskError};

/// So many run beside the poison.
const NEIGHBOURS: usize = 2;

/// The attempt that is the last one for whoever dies in it.
const LAST: u32 = 3;

/// How long company is waited for that does not come.
const MOMENT: Duration = Duration::from_millis(300);

/// How many neighbours have begun here, and whether the poison has.
static BEGUN: Mutex<(usize, bool)> = Mutex::new((0, false));
static CHANGED: Condvar = Condvar::new();

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("taskloom-poison FILE")?;
    let app = App::builder().workers(NEIGHBOURS + 1).open(&format!("sqlite:{file}"))?;
    app.task("poison", poison).register()?;
    app.task("neighbour", neighbour).register()?;
    let running = app.start()?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    running.stop();
    Ok(())
}

fn wait(until: impl Fn(&(usize, bool)) -> bool, is_last: bool) {
    CHANGED.notify_all();
    let mut begun = BEGUN.lock().expect("nobody panics");
    while !until(&begun) {
        if is_last {
            let waited = CHANGED.wait_timeout(begun, MOMENT).expect("nobody panics");
            if waited.1.timed_out() {
                return;
            }
            begun = waited.0;
        } else {
            begun = CHANGED.wait(begun).expect("nobody panics");
        }
    }
}

fn poison((): (), context: &Context) -> Result<(), TaskError> {
    BEGUN.lock().expect("nobody panics").1 = true;
    wait(|(neighbours, _)| *neighbours == NEIGHBOURS, context.attempt() >= LAST);
    std::process::abort()
}

fn neighbour((): (), context: &Context) -> Result<(), TaskError> {
    BEGUN.lock().expect("nobody panics").0 += 1;
    let is_last = context.attempt() >= LAST;
    wait(|(_, poison)| is_last && *poison, is_last);
    Ok(())
}
