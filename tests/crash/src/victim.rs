//! A process to be killed: `taskloom-victim producer|worker FILE LOG SEED`.
//!
//! A *producer* submits tasks for as long as it lives, one by one and many at once, and writes the ids of those that were
//! acknowledged to the log: after the submit has returned, so what stands there was promised. A *worker* runs them. Both
//! print `ready` when they are at work. A worker ends gracefully when its standard input does.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use taskloom::{App, Context, RetryPolicy, TaskError};

/// How many tasks are submitted at once, at most.
const MANY: u64 = 40;

/// How often a producer submits: whoever kills it must not leave a backlog for hours.
const SUBMITS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, file, log, seed] = arguments.as_slice() else {
        return Err("taskloom-victim producer|worker FILE LOG SEED".into());
    };
    let app = App::builder().workers(2).open(&format!("sqlite:{file}"))?;
    app.task("echo", echo)
        .retries(3)
        .retry(RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() })
        .register()?;
    match role.as_str() {
        "producer" => produce(&app, log, seed.parse()?),
        "worker" => work(&app),
        other => Err(format!("role {other:?} is not known").into()),
    }
}

/// Every seventh task fails the first time.
#[allow(clippy::needless_pass_by_value, reason = "what a handler is")]
fn echo(input: u64, context: &Context) -> Result<u64, TaskError> {
    if input.is_multiple_of(7) && context.attempt() == 1 {
        return Err(TaskError::new("the first time"));
    }
    Ok(input)
}

fn produce(app: &App, log: &str, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut log = File::options().create(true).append(true).open(log)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    println!("ready");
    for _ in 0..SUBMITS {
        let first = rng.u64(..1 << 40);
        let handles = if rng.bool() {
            vec![app.submit("echo", &first)?]
        } else {
            app.submit_many("echo", &(first..first + rng.u64(1..MANY)).collect::<Vec<_>>())?
        };
        // A kill may leave half of a line, where a write goes from one page to the next: what follows it stands apart.
        let lines: String = handles.iter().map(|handle| format!("\n{}\n", handle.id())).collect();
        log.write_all(lines.as_bytes())?;
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn work(app: &App) -> Result<(), Box<dyn Error>> {
    let running = app.start()?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    running.stop();
    Ok(())
}
