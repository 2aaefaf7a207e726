//! Which tasks: the options that `tasks` commands share, the same as those of `app.list`.

use clap::Args;
use taskloom_model::{Name, Result, State, check_name};
use taskloom_store::Filter;

use crate::values;

/// Which tasks a command is about.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// Only those in this state
    #[arg(long, short = 's', value_parser = values::state(), help_heading = "Which tasks")]
    pub(crate) state: Option<State>,
    /// Only those in this queue
    #[arg(long, short = 'q', help_heading = "Which tasks")]
    pub(crate) queue: Option<String>,
    /// Only those of this handler
    #[arg(long, short = 'n', help_heading = "Which tasks")]
    pub(crate) name: Option<String>,
    /// Only those with this tag
    #[arg(long, short = 't', help_heading = "Which tasks")]
    pub(crate) tag: Option<String>,
}

impl Which {
    /// Whether nothing was narrowed down.
    pub(crate) fn is_everything(&self) -> bool {
        self.state.is_none() && self.queue.is_none() && self.name.is_none() && self.tag.is_none()
    }

    /// As the store understands it.
    ///
    /// Errors: `InvalidOption` for what cannot be a name.
    pub(crate) fn filter(&self) -> Result<Filter> {
        let name = |what: &str, text: &Option<String>| match text {
            Some(text) => check_name(what, text).map(|()| Some(Name::new(text))),
            None => Ok(None),
        };
        Ok(Filter {
            state: self.state,
            queue: name("queue", &self.queue)?,
            name: name("handler", &self.name)?,
            tag: self.tag.clone(),
            ..Filter::default()
        })
    }

    /// In words: `failed tasks in queue "mail"`.
    pub(crate) fn in_words(&self) -> String {
        let mut words = String::new();
        if let Some(state) = self.state {
            words.push_str(state.as_str());
            words.push(' ');
        }
        words.push_str("tasks");
        if let Some(name) = &self.name {
            words.push_str(&format!(" of handler {name:?}"));
        }
        if let Some(queue) = &self.queue {
            words.push_str(&format!(" in queue {queue:?}"));
        }
        if let Some(tag) = &self.tag {
            words.push_str(&format!(" with tag {tag:?}"));
        }
        words
    }
}
