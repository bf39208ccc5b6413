//! stderr: notes, errors, logs and the progress bar, without one garbling the other.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use clap::{ArgAction, Args};
use detr_types::{env, in_plain_words};
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::text::escaped;

/// The flags that set how much is said on stderr.
#[derive(Args, Clone, Debug, Default)]
pub struct LogArgs {
    /// Only results and errors
    #[arg(short, long, global = true, display_order = 900, conflicts_with = "verbose")]
    pub quiet: bool,

    /// More messages; -vv for debugging
    #[arg(short, long, global = true, display_order = 900, action = ArgAction::Count)]
    pub verbose: u8,
}

/// A bar that any thread may move; it goes away when dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Sets how much is done, and how much there is in all.
    pub fn set(&self, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
    }

    /// Sets the words beside a bar of [`Console::progress_with_words`].
    pub fn say(&self, words: &str) {
        self.0.set_message(escaped(words));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The terminal behind stderr, if there is one. Clones share it.
#[derive(Clone, Debug)]
pub struct Console {
    quiet: bool,
    color: bool,
    /// The bar that is shown now; a hidden one when there is none.
    bar: Rc<RefCell<ProgressBar>>,
}

const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

impl Console {
    /// Colours are used on a terminal, unless `NO_COLOR` is set.
    #[must_use]
    pub fn new(log: &LogArgs) -> Self {
        let no_color = std::env::var_os(env::NO_COLOR).is_some_and(|value| !value.is_empty());
        Self {
            quiet: log.quiet,
            color: io::stderr().is_terminal() && !no_color,
            bar: Rc::new(RefCell::new(ProgressBar::hidden())),
        }
    }

    /// Creates a console without notes and bars.
    #[must_use]
    pub fn only_errors(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// Returns whether only results and errors are wanted.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Sends the logs of all libraries to stderr, from warnings up or as `-q` and `-v` say.
    pub(super) fn start_logging(&self, log: &LogArgs) {
        // A machine without OpenGL is no failure: its driver is only asked for adapters.
        let filter = match (log.quiet, log.verbose) {
            (true, _) => "error,wgpu_hal::gles=off",
            (_, 0) => "warn,wgpu_hal::gles=off",
            (_, 1) => "warn,detr=info",
            (_, 2) => "info,detr=debug",
            _ => "debug,detr=trace",
        };
        let started = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(io::stderr)
            .with_ansi(self.color)
            .with_target(log.verbose > 1)
            .without_time()
            .try_init();
        if started.is_err() {
            self.note("logging was already started");
        }
    }

    /// Says something that is good to know; nothing with `-q`.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            self.line(&escaped(&in_plain_words(message)));
        }
    }

    /// Says something that must not be missed, even with `-q`.
    pub fn warn(&self, message: &str) {
        self.line(&escaped(&in_plain_words(&format!("note: {message}"))));
    }

    /// Prints what was asked for, even with `-q`.
    pub(super) fn say(&self, text: &str) {
        self.line(text);
    }

    /// Prints `error: ...`, and the hints in the message in their own colour. Names of a program's types, which
    /// messages of parsers have, are put into words.
    pub fn error(&self, message: &str) {
        let paint = |color: &str, word: &str| {
            if self.color { format!("{color}{word}{RESET}") } else { word.to_owned() }
        };
        let mut text = paint(RED, "error:") + " ";
        for (index, line) in escaped(&in_plain_words(message)).lines().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            match line.strip_prefix("hint:") {
                Some(hint) => text += &(paint(CYAN, "hint:") + hint),
                None => text += line,
            }
        }
        self.line(&text);
    }

    /// Runs work that prints to stdout while a bar may be on the screen.
    pub(super) fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        let bar = self.bar.borrow().clone();
        bar.suspend(work)
    }

    /// Shows a bar for work of several threads; `unit` is what is counted.
    #[must_use]
    pub fn progress(&self, unit: &str) -> Progress {
        self.start_bar(None, &format!("{{bar:20}} {{pos}}/{{len}} {unit} {{per_sec}} {{eta}}"));
        Progress(self.bar.borrow().clone())
    }

    /// Shows a bar with words of the caller's beside it.
    #[must_use]
    pub fn progress_with_words(&self) -> Progress {
        // A bar without a length starts empty; a length of zero would show it full.
        self.start_bar(None, "{bar:20} {wide_msg}");
        Progress(self.bar.borrow().clone())
    }

    /// Returns whether bars are shown.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Shows a bar for a number of images, or of bytes; hidden with `-q` and off a terminal.
    pub(super) fn start_bar(&self, total: Option<u64>, template: &str) {
        if !self.is_interactive() {
            return;
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar.replace(bar);
    }

    /// Moves the bar on by `count` images.
    pub fn advance(&self, count: u64) {
        self.bar.borrow().inc(count);
    }

    pub(super) fn end_bar(&self) {
        self.bar.replace(ProgressBar::hidden()).finish_and_clear();
    }

    /// Prints a message that is already escaped, and maybe coloured. One that cannot be shown has no
    /// other place to go.
    fn line(&self, text: &str) {
        self.suspend(|| drop(writeln!(io::stderr(), "{text}")));
    }
}
