//! `log.txt`: all messages, with times in UTC.

use std::path::Path;

use crate::appender::Appender;
use crate::clock::{rfc3339, unix_now};
use crate::messages::{Level, Message};
use crate::{Delivery, RunContext, Sink, SinkError, SinkResult};

/// Name of the file.
const LOG_FILE: &str = "log.txt";

/// The writer of `log.txt`.
#[derive(Debug)]
pub struct TextLog(Appender);

impl TextLog {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(Appender::new(folder.join(LOG_FILE)))
    }
}

impl Sink for TextLog {
    fn message(&mut self, message: &Message, _: &RunContext) -> SinkResult {
        let prefix = if message.level == Level::Warning { "note: " } else { "" };
        let line = format!("{} {prefix}{}\n", rfc3339(unix_now()), message.text);
        self.0.append(line.as_bytes()).map_err(|error| SinkError::new(LOG_FILE, error))?;
        Ok(Delivery::Written)
    }
}
