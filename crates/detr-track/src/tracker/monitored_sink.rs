//! Wraps a sink so that each kind of failure is reported once.

use crate::{Delivery, Sink, SinkError, SinkResult};

/// A sink, and whether it fails at the moment.
pub(super) struct MonitoredSink {
    sink: Box<dyn Sink>,
    /// The name of what the sink failed to write, if it fails.
    failing: Option<String>,
}

impl MonitoredSink {
    pub(super) fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, failing: None }
    }

    /// Calls the sink, and returns what the user should be told of it: that it begins to fail, or that it works
    /// again.
    pub(super) fn call(
        &mut self,
        work: impl FnOnce(&mut dyn Sink) -> SinkResult,
    ) -> Option<String> {
        match work(&mut *self.sink) {
            Ok(Delivery::Idle) => None,
            Ok(Delivery::Written) => {
                self.failing.take().map(|target| format!("{target} can be written again"))
            }
            Err(SinkError { target, .. }) if self.failing.as_ref() == Some(&target) => None,
            Err(SinkError { target, source }) => {
                let news = format!("{target} cannot be written, and is tried again: {source}");
                self.failing = Some(target);
                Some(news)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink that is never called.
    struct UnusedSink;

    impl Sink for UnusedSink {}

    #[test]
    fn a_failure_is_told_once_and_its_end_once() {
        let mut sink = MonitoredSink::new(Box::new(UnusedSink));
        let mut call = |result: SinkResult| sink.call(|_| result);
        let full = || Err(SinkError::new("a", "full"));
        assert_eq!(call(Ok(Delivery::Written)), None);
        assert_eq!(call(full()).unwrap(), "a cannot be written, and is tried again: full");
        assert_eq!(call(full()), None);
        assert_eq!(call(Ok(Delivery::Idle)), None);
        assert_eq!(call(Ok(Delivery::Written)).unwrap(), "a can be written again");
        assert_eq!(call(Ok(Delivery::Written)), None);
    }
}
