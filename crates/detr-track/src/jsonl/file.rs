//! Reading `metrics.jsonl`, which may be of any length and end in half a line, and cutting it back to a step.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

use detr_types::fs::PendingFile;

use super::MetricsLine;

/// Bytes of the longest line that is read.
pub(crate) const LONGEST_LINE: u64 = 1 << 20;

/// The lines that were taken out of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truncation {
    /// Lines of later steps.
    beyond: u64,
    /// Torn lines.
    torn: u64,
}

/// Removes lines of steps beyond `step`, and torn lines, from a file. A file without such lines is not touched.
///
/// # Errors
/// The file cannot be read or replaced; it is then as it was.
pub(crate) fn truncate(path: &Path, step: u64) -> io::Result<Truncation> {
    let mut truncation = Truncation::default();
    let mut kept = match path.metadata() {
        Ok(_) => PendingFile::create(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(truncation),
        Err(error) => return Err(error),
    };
    for_each_line(File::open(path)?, |line| {
        let parsed = line.and_then(|line| Some((line, MetricsLine::parse(line)?)));
        match parsed {
            None => truncation.torn += 1,
            Some((_, parsed)) if parsed.step().is_some_and(|of| of > step) => {
                truncation.beyond += 1;
            }
            Some((line, _)) => {
                kept.write_all(line)?;
                kept.write_all(b"\n")?;
            }
        }
        Ok(())
    })?;
    if truncation != Truncation::default() {
        kept.persist()?;
    }
    Ok(truncation)
}

/// Calls `take` with every line from the current position of a file on, without its end; with `None` for a line
/// that has no end or is too long.
///
/// # Errors
/// The file cannot be read, or the first error of `take`.
pub(crate) fn for_each_line(
    file: File,
    mut take: impl FnMut(Option<&[u8]>) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    let mut is_rest = false;
    loop {
        line.clear();
        if file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            // The end of a line whose beginning was reported as too long.
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
    use crate::jsonl::step_line;
    use crate::records::StepRecord;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_resumed_run_forgets_what_its_checkpoint_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(truncate(&path, 3).unwrap(), Truncation::default());
        let step = |step| step_line(&StepRecord { step, loss: 1.0, ..StepRecord::default() });
        let mut text: Vec<String> = (1..=5).map(step).collect();
        text.insert(3, "{\"event\":\"resumed\",\"step\":3}".to_owned());
        text.insert(2, "half a li".to_owned());
        std::fs::write(&path, text.join("\n") + "\n{\"event\":\"step\",\"st").unwrap();
        assert_eq!(truncate(&path, 4).unwrap(), Truncation { beyond: 1, torn: 2 });
        text.remove(6);
        text.remove(2);
        assert_eq!(lines(&path), text);
        // A whole file is left alone.
        let before = path.metadata().unwrap().modified().unwrap();
        assert_eq!(truncate(&path, 4).unwrap(), Truncation::default());
        assert_eq!(path.metadata().unwrap().modified().unwrap(), before);
    }
}
