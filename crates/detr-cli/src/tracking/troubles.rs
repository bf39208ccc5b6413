//! What of a run's records cannot be written now. It is said once, and once more when it works again.

use std::collections::BTreeSet;
use std::fmt::Display;

/// Names of what cannot be written.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeSet<&'static str>);

impl Troubles {
    /// What to say of an attempt to write `name`, if it is news.
    pub(super) fn news<E: Display>(
        &mut self,
        name: &'static str,
        result: Result<(), E>,
    ) -> Option<String> {
        match result {
            Ok(()) => {
                let was = self.0.remove(name);
                was.then(|| format!("{name} can be written again"))
            }
            Err(error) => {
                let first = self.0.insert(name);
                first.then(|| format!("{name} cannot be written, and is tried again: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_and_its_end_once() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.news("a", Ok::<(), &str>(())), None);
        assert!(troubles.news("a", Err("full")).unwrap().contains("full"));
        assert_eq!(troubles.news("a", Err("full")), None);
        assert!(troubles.news("a", Ok::<(), &str>(())).unwrap().contains("again"));
        assert_eq!(troubles.news("a", Ok::<(), &str>(())), None);
    }
}
