//! The rule that ends a run whose AP does not improve. It is a function of the validations, so a run that goes on after
//! a checkpoint, perhaps with more patience, decides as if it had had that patience from the start.

use super::progress::Validation;
use crate::settings::EarlyStopping;

/// Returns whether a run should have ended after one of its validations: at an epoch after `min_epochs`, and at least
/// `patience` epochs after that of the highest AP before. Until there is a validation, epoch 1 counts as the best.
pub(super) fn is_stale(early: &EarlyStopping, validations: &[Validation]) -> bool {
    let (mut best_epoch, mut best_ap) = (1, f64::MIN);
    validations.iter().any(|&Validation { epoch, ap, .. }| {
        if ap > best_ap {
            (best_epoch, best_ap) = (epoch, ap);
            return false;
        }
        epoch > early.min_epochs as u64 && epoch - best_epoch >= early.patience as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first epoch after which a run ends, if it has these APs after every `every`
    /// epochs.
    fn end(patience: usize, min_epochs: usize, every: u64, aps: &[f64]) -> Option<u64> {
        let early = EarlyStopping { patience, min_epochs };
        let epochs = (1..).map(|validation| validation * every);
        let validations: Vec<_> = epochs
            .zip(aps)
            .map(|(epoch, &ap)| Validation { epoch, step: 0, ap, ap50: 0.0 })
            .collect();
        (1..=aps.len()).find(|&n| is_stale(&early, &validations[..n])).map(|n| n as u64 * every)
    }

    #[test]
    fn a_run_that_gets_better_goes_on() {
        assert_eq!(end(1, 0, 1, &[-1.0, 0.0, 0.1, 0.2, 0.3]), None);
        assert_eq!(end(2, 0, 1, &[0.1, 0.0, 0.2, 0.1, 0.3]), None);
    }

    #[test]
    fn patience_counts_epochs_since_the_best() {
        assert_eq!(end(1, 0, 1, &[0.3, 0.2]), Some(2));
        assert_eq!(end(2, 0, 1, &[0.1, 0.3, 0.2, 0.2, 0.9]), Some(4));
        // The same AP again is no better.
        assert_eq!(end(3, 0, 1, &[0.3, 0.3, 0.3, 0.3]), Some(4));
        // Epochs count, not validations.
        assert_eq!(end(3, 0, 2, &[0.3, 0.2, 0.1]), Some(6));
    }

    #[test]
    fn a_run_does_not_end_within_its_first_epochs() {
        assert_eq!(end(1, 3, 1, &[0.3, 0.2, 0.1, 0.1]), Some(4));
        assert_eq!(end(1, 4, 1, &[0.3, 0.2, 0.1, 0.1]), None);
        // A better epoch in between counts.
        assert_eq!(end(2, 3, 1, &[0.1, 0.2, 0.3, 0.2]), None);
    }

    #[test]
    fn a_run_that_goes_on_remembers_how_long_it_did_not_get_better() {
        let aps = [0.5, 0.4, 0.4, 0.4, 0.4];
        assert_eq!(end(2, 0, 1, &aps), Some(3));
        // A patience that is raised after three epochs ends the run after the fourth, not after
        // three more.
        assert_eq!(end(3, 0, 1, &aps), Some(4));
        // A patience that is lowered ends the run at once.
        let early = EarlyStopping { patience: 1, min_epochs: 0 };
        let validation = |epoch, ap| Validation { epoch, step: 0, ap, ap50: 0.0 };
        assert!(is_stale(&early, &[validation(1, 0.5), validation(2, 0.4), validation(3, 0.9)]));
    }
}
