//! `metrics.jsonl`, and lines for people.

use std::fs;
use std::io::Write;
use std::path::Path;

use detr_infer::cli::{CliError, Console};
use detr_train::{Event, Step, named};
use serde_json::json;

/// Where the events of a run go.
pub(super) struct Log {
    file: fs::File,
    every: u64,
    console: Console,
}

impl Log {
    pub(super) fn open(folder: &Path, every: u64, console: &Console) -> Result<Self, CliError> {
        let path = folder.join("metrics.jsonl");
        let file = fs::OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|error| {
            CliError::Failed(format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(Self { file, every, console: console.clone() })
    }

    pub(super) fn write(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Step(Step { at, report, lr, seconds, waited, images, .. }) => {
                if at.step.is_multiple_of(self.every) {
                    self.console.note(&format!(
                        "epoch {} step {}: loss {:.3}, gradient {:.2}, lr {lr:.1e}, {seconds:.2} s",
                        at.epoch + 1,
                        at.step,
                        report.loss,
                        report.grad_norm
                    ));
                }
                let losses: serde_json::Map<String, serde_json::Value> =
                    named(&report.losses).map(|(name, value)| (name, value.into())).collect();
                json!({ "step": at.step, "epoch": at.epoch + 1, "loss": report.loss, "lr": lr,
                        "grad_norm": report.grad_norm, "seconds": seconds, "waited": waited,
                        "images": images, "losses": losses })
            }
            Event::Skipped { at, reason, images } => {
                self.console.warn(&format!("step {} skipped: {reason}", at.step));
                json!({ "step": at.step, "skipped": reason.to_string(), "images": images })
            }
            Event::Validated { at, metrics, best, without_ema } => {
                let s = &metrics.summary;
                let star = if *best { ", the best so far" } else { "" };
                let raw = without_ema.map_or_else(String::new, |raw| {
                    format!(" (without EMA {:.3})", raw.summary.ap)
                });
                self.console.note(&format!(
                    "epoch {}: AP {:.3}{raw}, AP50 {:.3}, AR {:.3}{star}",
                    at.epoch + 1,
                    s.ap,
                    s.ap50,
                    s.ar
                ));
                json!({ "step": at.step, "epoch": at.epoch + 1, "metrics": s, "best": best })
            }
            Event::Resumed { at, passed } => {
                for one in *passed {
                    let path = one.path.display();
                    self.console.warn(&format!("{path} is passed over: {}", one.reason));
                }
                self.console.note(&format!("goes on after step {}", at.step));
                json!({ "resumed": at.step })
            }
            Event::NotSaved(reason) => {
                self.console.warn(&format!("not written, the run goes on: {reason}"));
                json!({ "not_saved": reason })
            }
            Event::Overflowed { at, scale } => {
                self.console.note(&format!("step {}: the loss scale is {scale} now", at.step));
                json!({ "step": at.step, "loss_scale": scale })
            }
            Event::Begins { .. } | Event::Saved(_) | Event::Validating(..) => return,
        };
        // The log is not worth the run.
        drop(writeln!(self.file, "{line}"));
    }
}
