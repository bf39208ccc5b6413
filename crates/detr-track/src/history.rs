//! `metrics.jsonl`, read back: for `--resume`, which cuts off what lies beyond its checkpoint, and for
//! `detr runs`. The file may be of any length and end in half a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use detr_types::fs::PendingFile;
use serde::Serialize;

use crate::records::{Line, StepRow, Validation};
use crate::series::Thinned;

/// Bytes of the longest line that is one of ours.
const LONGEST: u64 = 1 << 20;

/// What a run told until now.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The loss over steps.
    pub loss: Thinned,
    /// Losses of the last decoder layer over steps, by name.
    pub losses: Vec<(String, Thinned)>,
    /// The last step.
    pub last: Option<StepRow>,
    /// Validations, one for a step.
    pub validations: Vec<Validation>,
    /// Steps that were skipped.
    pub skipped: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
}

/// What was taken out of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Lines of later steps.
    pub beyond: u64,
    /// Lines that were no lines.
    pub torn: u64,
}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or none; lines that cannot be are counted.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        each_line(File::open(path)?, |line| {
            history.take(line);
            Ok(())
        })?;
        Ok(history)
    }

    /// Reads the last part of a file, whatever its length.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_end(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut history = Self::default();
        let mut is_part = length > LONGEST;
        if is_part {
            file.seek(SeekFrom::Start(length - LONGEST))?;
        }
        each_line(file, |line| {
            // Begins in the middle of a line.
            if !std::mem::take(&mut is_part) {
                history.take(line);
            }
            Ok(())
        })?;
        Ok(history)
    }

    fn take(&mut self, line: Option<&[u8]>) {
        match line.and_then(Line::parse) {
            Some(line) => self.add(&line),
            None => self.unreadable += 1,
        }
    }

    fn add(&mut self, line: &Line) {
        match line {
            Line::Step(row) => self.add_step(row),
            Line::Validated(row) => self.add_validation(row.clone()),
            Line::Skipped(_) => self.skipped += 1,
            Line::Other(_) => {}
        }
    }

    /// Remembers a step.
    pub fn add_step(&mut self, row: &StepRow) {
        self.loss.push(row.step, row.loss);
        for (name, value) in row.losses.iter().filter(|(name, _)| is_plotted(name)) {
            let known = self.losses.iter().position(|(known, _)| known == name);
            let place = known.unwrap_or_else(|| {
                self.losses.push((name.clone(), Thinned::default()));
                self.losses.len() - 1
            });
            self.losses[place].1.push(row.step, *value);
        }
        self.last = Some(row.clone());
    }

    /// Remembers a validation, instead of one of the same step.
    pub fn add_validation(&mut self, row: Validation) {
        self.validations.retain(|other| other.step != row.step);
        self.validations.push(row);
    }

    /// The best validation by AP, the earliest of equals.
    pub fn best(&self) -> Option<&Validation> {
        let better = |a: &Validation, b: &Validation| a.metrics.ap.total_cmp(&b.metrics.ap);
        // `max_by` takes the last of equals.
        self.validations.iter().rev().max_by(|a, b| better(a, b))
    }
}

/// Losses of the last decoder layer: those whose names do not end in another layer's.
fn is_plotted(name: &str) -> bool {
    let end = name.rsplit('_').next().unwrap_or_default();
    name.starts_with("loss_") && end != "enc" && !end.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes lines of steps beyond `step`, and lines that are torn, out of a file. Nothing happens to a file
/// without such lines, or to none.
///
/// # Errors
/// A file that cannot be read or replaced; it is then as it was.
pub fn cut(path: &Path, step: u64) -> io::Result<Cut> {
    let mut cut = Cut::default();
    let mut kept = match path.metadata() {
        Ok(_) => PendingFile::create(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(cut),
        Err(error) => return Err(error),
    };
    each_line(File::open(path)?, |line| {
        let parsed = line.and_then(|line| Some((line, Line::parse(line)?)));
        match parsed {
            None => cut.torn += 1,
            Some((_, parsed)) if parsed.step().is_some_and(|of| of > step) => cut.beyond += 1,
            Some((line, _)) => {
                kept.write_all(line)?;
                kept.write_all(b"\n")?;
            }
        }
        Ok(())
    })?;
    if cut != Cut::default() {
        kept.persist()?;
    }
    Ok(cut)
}

/// Gives every line of a file from where it stands, without its end; `None` for one that has no end or is too long.
pub fn each_line(
    file: File,
    mut take: impl FnMut(Option<&[u8]>) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    let mut is_rest = false;
    loop {
        line.clear();
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            // The end of a line of which the beginning was told.
            Some(_) if is_rest => is_rest = false,
            Some(whole) => take(Some(whole))?,
            None if is_rest => {}
            None => {
                take(None)?;
                is_rest = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_resumed_run_forgets_what_its_checkpoint_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(cut(&path, 3).unwrap(), Cut::default());
        let step = |step| StepRow { step, loss: 1.0, ..StepRow::default() }.line();
        let mut text: Vec<String> = (1..=5).map(step).collect();
        text.insert(3, "{\"event\":\"resumed\",\"step\":3}".to_owned());
        text.insert(2, "half a li".to_owned());
        std::fs::write(&path, text.join("\n") + "\n{\"event\":\"step\",\"st").unwrap();
        assert_eq!(cut(&path, 4).unwrap(), Cut { beyond: 1, torn: 2 });
        text.remove(6);
        text.remove(2);
        assert_eq!(lines(&path), text);
        // A whole file is left alone.
        let before = path.metadata().unwrap().modified().unwrap();
        assert_eq!(cut(&path, 4).unwrap(), Cut::default());
        assert_eq!(path.metadata().unwrap().modified().unwrap(), before);
    }

    #[test]
    fn a_line_without_end_costs_neither_memory_nor_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let long = "x".repeat(usize::try_from(LONGEST).unwrap() * 3 + 5);
        let step = StepRow { step: 1, loss: 2.0, ..StepRow::default() }.line();
        std::fs::write(&path, format!("{long}\n{step}\n{long}")).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!((history.unreadable, history.last.unwrap().step), (2, 1));
        std::fs::write(&path, format!("{long}\n{step}\n{{")).unwrap();
        let end = History::read_end(&path).unwrap();
        assert_eq!((end.unreadable, end.last.unwrap().step), (1, 1));
    }

    #[test]
    fn losses_of_the_last_layer_are_plotted() {
        let plotted = ["loss_ce", "loss_bbox", "loss_ce_0", "loss_giou_enc", "class_error"];
        assert_eq!(plotted.map(is_plotted), [true, true, false, false, false]);
    }
}
