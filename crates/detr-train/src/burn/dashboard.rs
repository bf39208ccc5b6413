//! Burn's dashboard for a terminal, as a listener to a run. Burn's own event processor cannot be made outside of its
//! training loop, so the renderer is told here what that processor would tell it.

use burn_train::Interrupter;
use burn_train::metric::{
    Metric, MetricDefinition, MetricEntry, MetricId, Numeric, NumericEntry, SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer};

use super::metrics::{ScalarMetric, Scalars};
use crate::run::{Event, Phase, StopFlag, Watch};

/// Shows a run in one of Burn's renderers. A key press that stops the renderer's [`Interrupter`] stops the run.
pub struct Dashboard {
    renderer: Box<dyn MetricsRenderer>,
    interrupter: Interrupter,
    stop: StopFlag,
    training: Vec<ScalarMetric>,
    validation: Vec<ScalarMetric>,
    /// Batches of the validation that is on its way.
    validation_batches: usize,
}

/// The two kinds of data that Burn's renderers tell apart.
#[derive(Clone, Copy)]
enum Split {
    Training,
    Validation,
}

impl Dashboard {
    /// Opens Burn's dashboard on stdout, which must be a terminal. Its keys raise `stop`.
    #[must_use]
    pub fn open(stop: &StopFlag) -> Self {
        let interrupter = Interrupter::new();
        let renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        Self::new(Box::new(renderer), interrupter, stop)
    }

    /// Shows a run in a renderer that asks `interrupter` to stop it.
    #[must_use]
    pub fn new(
        renderer: Box<dyn MetricsRenderer>,
        interrupter: Interrupter,
        stop: &StopFlag,
    ) -> Self {
        let training = [Scalars::LOSS, Scalars::GRADIENT, Scalars::LEARNING_RATE];
        let validation = [Scalars::AP, Scalars::AP50];
        Self {
            renderer,
            interrupter,
            stop: stop.clone(),
            training: training.map(|name| ScalarMetric::new(name, false)).into(),
            validation: validation.map(|name| ScalarMetric::new(name, true)).into(),
            validation_batches: 0,
        }
    }

    /// Shows the numbers after a number of batches of an epoch or a validation.
    fn show(&mut self, split: Split, scalars: &Scalars, batches: usize) {
        for metric in metrics_of(split, &mut self.training, &mut self.validation) {
            let text = metric.record(scalars);
            update(&mut *self.renderer, split, metric, text, metric.value());
        }
        self.renderer.update_split(batches);
        self.renderer.log_event_training("Iteration".to_owned());
    }

    /// Shows the means over an epoch or a validation, and forgets them.
    fn end(&mut self, split: Split) {
        for metric in metrics_of(split, &mut self.training, &mut self.validation) {
            let text = metric.mean();
            update(&mut *self.renderer, split, metric, text, Some(metric.final_value()));
            metric.clear();
        }
        self.renderer.end_split();
    }

    /// Hands a key press on to the run.
    fn pass_stop_on(&self) {
        if self.interrupter.should_stop() {
            self.stop.stop();
        }
    }
}

fn metrics_of<'a>(
    split: Split,
    training: &'a mut [ScalarMetric],
    validation: &'a mut [ScalarMetric],
) -> &'a mut [ScalarMetric] {
    match split {
        Split::Training => training,
        Split::Validation => validation,
    }
}

fn update(
    renderer: &mut dyn MetricsRenderer,
    split: Split,
    metric: &ScalarMetric,
    text: SerializedEntry,
    value: Option<NumericEntry>,
) {
    let entry = MetricEntry::new(MetricId::new(metric.name()), text);
    let state = MetricState::Numeric(entry, value);
    match split {
        Split::Training => renderer.update_train(state),
        Split::Validation => renderer.update_valid(state),
    }
}

impl Watch for Dashboard {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Step(step) => {
                let scalars = Scalars::new([
                    (Scalars::LOSS, f64::from(step.report.loss)),
                    (Scalars::GRADIENT, f64::from(step.report.grad_norm)),
                    (Scalars::LEARNING_RATE, step.lr),
                ]);
                self.show(Split::Training, &scalars, step.at.batch);
            }
            Event::Validated { metrics, .. } => {
                let (ap, ap50) = (metrics.summary.ap, metrics.summary.ap50);
                let scalars = Scalars::new([(Scalars::AP, ap), (Scalars::AP50, ap50)]);
                self.show(Split::Validation, &scalars, self.validation_batches);
                self.end(Split::Validation);
            }
            _ => {}
        }
        self.pass_stop_on();
    }

    fn phase(&mut self, phase: Phase) {
        match phase {
            Phase::RunBegins { epoch, epochs } => {
                for metric in self.training.iter().chain(&self.validation) {
                    let id = MetricId::new(metric.name());
                    self.renderer.register_metric(MetricDefinition::new(id, metric));
                }
                self.renderer.start(count(epochs), count(epoch), None, None);
            }
            Phase::TrainingBegins { batches, .. } => self.renderer.start_split("train", batches),
            Phase::TrainingEnds { .. } => self.end(Split::Training),
            Phase::ValidationBegins { batches, .. } => {
                self.validation_batches = batches;
                self.renderer.start_split("valid", batches);
            }
            Phase::EpochEnds { epoch } => self.renderer.update_epoch(count(epoch)),
            Phase::RunEnds => {
                self.renderer.end();
                // Burn's own loop does not look at an error here, either.
                drop(self.renderer.on_train_end(None));
            }
        }
        self.pass_stop_on();
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use burn_train::LearnerSummary;
    use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
    use burn_train::renderer::{
        EvaluationName, MetricsRendererEvaluation, MetricsRendererTraining,
    };

    use super::*;
    use crate::run::{Progress, Step};
    use crate::step::StepReport;

    /// Writes down what it is told.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Recorder {
        fn note(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }

        fn metric(&self, split: &str, state: MetricState) {
            let MetricState::Numeric(entry, value) = state else { panic!("{state:?}") };
            let value = value.map(|value| value.serialize());
            self.note(format!("{split}: {} {value:?}", entry.serialized_entry.formatted));
        }
    }

    impl MetricsRendererTraining for Recorder {
        fn update_train(&mut self, state: MetricState) {
            self.metric("train", state);
        }

        fn update_valid(&mut self, state: MetricState) {
            self.metric("valid", state);
        }

        fn on_train_end(
            &mut self,
            _summary: Option<LearnerSummary>,
        ) -> Result<(), Box<dyn std::error::Error>> {
            self.note("the training ended".to_owned());
            Ok(())
        }
    }

    impl TrainingProgressLogger for Recorder {
        fn start(&mut self, epochs: usize, epoch: usize, _: Option<usize>, _: Option<&str>) {
            self.note(format!("epoch {epoch} of {epochs}"));
        }

        fn update_epoch(&mut self, epoch: usize) {
            self.note(format!("epoch {epoch} is done"));
        }

        fn start_split(&mut self, split: &str, items: usize) {
            self.note(format!("{split} of {items}"));
        }

        fn update_split(&mut self, items: usize) {
            self.note(format!("{items} are done"));
        }

        fn end_split(&mut self) {
            self.note("end of split".to_owned());
        }

        fn end(&mut self) {
            self.note("end".to_owned());
        }

        fn log_event_training(&mut self, event: String) {
            self.note(event);
        }
    }

    impl MetricsRenderer for Recorder {
        fn manual_close(&mut self) {}

        fn register_metric(&mut self, definition: MetricDefinition) {
            self.note(format!("metric {}", definition.name));
        }
    }

    impl MetricsRendererEvaluation for Recorder {
        fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
    }

    impl EvaluationProgressLogger for Recorder {
        fn start_global_progress(&mut self, _total_tests: usize) {}

        fn start_test(&mut self, _name: &str, _total_items: usize) {}

        fn update_test_progress(&mut self, _items_processed: usize) {}

        fn end_test(&mut self) {}

        fn end_global_progress(&mut self) {}

        fn log_event_evaluation(&mut self, _event: String) {}
    }

    fn step(dashboard: &mut Dashboard, batch: usize, loss: f32) {
        let at = Progress { batch, ..Progress::default() };
        let report = StepReport { loss, losses: Vec::new(), grad_norm: 0.5 };
        dashboard.event(Event::Step(Step {
            at: &at,
            steps: 2,
            report: &report,
            lr: 0.25,
            seconds: 1.0,
            waited: 0.0,
            images: &[],
            bad_images: 0,
        }));
    }

    #[test]
    fn a_renderer_is_told_what_burns_loop_would_tell_it() {
        let (recorder, stop) = (Recorder::default(), StopFlag::new());
        let mut dashboard = Dashboard::new(Box::new(recorder.clone()), Interrupter::new(), &stop);
        dashboard.phase(Phase::RunBegins { epoch: 2, epochs: 3 });
        dashboard.phase(Phase::TrainingBegins { epoch: 2, batches: 2 });
        step(&mut dashboard, 1, 3.0);
        step(&mut dashboard, 2, 2.0);
        dashboard.phase(Phase::TrainingEnds { epoch: 2 });
        dashboard.phase(Phase::ValidationBegins { epoch: 2, batches: 4 });
        dashboard.event(Event::Validating(1, 4));
        dashboard.phase(Phase::EpochEnds { epoch: 2 });
        dashboard.phase(Phase::RunEnds);
        let told = recorder.0.lock().unwrap().clone();
        let expected = [
            "metric Loss",
            "metric Gradient norm",
            "metric Learning rate",
            "metric AP",
            "metric AP50",
            "epoch 2 of 3",
            "train of 2",
            "train: epoch 3.0000 - batch 3.0000 Some(\"3,1\")",
            "train: epoch 0.5000 - batch 0.5000 Some(\"0.5,1\")",
            "train: epoch 0.2500 - batch 0.2500 Some(\"0.25,1\")",
            "1 are done",
            "Iteration",
            "train: epoch 2.5000 - batch 2.0000 Some(\"2,1\")",
            "train: epoch 0.5000 - batch 0.5000 Some(\"0.5,1\")",
            "train: epoch 0.2500 - batch 0.2500 Some(\"0.25,1\")",
            "2 are done",
            "Iteration",
            "train: epoch 2.5000 - batch 2.0000 Some(\"2.5,final\")",
            "train: epoch 0.5000 - batch 0.5000 Some(\"0.5,final\")",
            "train: epoch 0.2500 - batch 0.2500 Some(\"0.25,final\")",
            "end of split",
            "valid of 4",
            "epoch 2 is done",
            "end",
            "the training ended",
        ];
        assert_eq!(told, expected);
        assert!(!stop.should_stop());
    }

    #[test]
    fn a_key_of_the_dashboard_stops_the_run() {
        let (interrupter, stop) = (Interrupter::new(), StopFlag::new());
        let mut dashboard =
            Dashboard::new(Box::new(Recorder::default()), interrupter.clone(), &stop);
        step(&mut dashboard, 1, 3.0);
        assert!(!stop.should_stop());
        interrupter.stop(None);
        dashboard.event(Event::Validating(1, 4));
        assert!(stop.should_stop());
    }
}
