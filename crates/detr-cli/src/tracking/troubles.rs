//! What of a run's records cannot be written now. It is said once, and once more when it works again.

use std::collections::BTreeMap;
use std::fmt::Display;

/// Names of what cannot be written, with the number of times that it was tried.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<&'static str, u64>);

impl Troubles {
    /// What to say of an attempt to write `name`, if it is news.
    pub(super) fn news<E: Display>(
        &mut self,
        name: &'static str,
        result: Result<(), E>,
    ) -> Option<String> {
        match result {
            Ok(()) => {
                let times = self.0.remove(name)?;
                Some(format!("{name} can be written again, after {times} attempts"))
            }
            Err(error) => {
                let times = self.0.entry(name).or_default();
                *times += 1;
                (*times == 1)
                    .then(|| format!("{name} cannot be written and is tried again later: {error}"))
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
        assert!(troubles.news("a", Ok::<(), &str>(())).unwrap().contains("after 2"));
        assert_eq!(troubles.news("a", Ok::<(), &str>(())), None);
    }
}
