//! The rule that keeps the checkpoints of the last epochs and that of the best validation. It is a function of the
//! validations, so a run that goes on after a checkpoint decides as if it had not been stopped.

use super::progress::Validation;

/// Returns the epochs whose checkpoints are no longer needed when `epoch` has ended and its own checkpoint is
/// written. `keep` is the number of epochs whose checkpoints are kept, beside the best one.
///
/// Only the epoch that leaves the last `keep` and a best one that has been surpassed can be among them, so nothing
/// that was kept under a larger `keep` is removed.
pub(super) fn expired(validations: &[Validation], epoch: u64, keep: u64) -> Vec<u64> {
    let (former, best) = (best_until(validations, epoch - 1), best_until(validations, epoch));
    let leaving = epoch.checked_sub(keep).filter(|&leaving| leaving > 0 && Some(leaving) != best);
    let surpassed = former.filter(|&former| {
        Some(former) != best && former + keep <= epoch && Some(former) != leaving
    });
    leaving.into_iter().chain(surpassed).collect()
}

/// Returns the epoch with the highest AP up to and including `epoch`, the first if several share it.
fn best_until(validations: &[Validation], epoch: u64) -> Option<u64> {
    let known = validations.iter().filter(|validation| validation.epoch <= epoch);
    known.reduce(|best, one| if one.ap <= best.ap { best } else { one }).map(|best| best.epoch)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Validations after some epochs, with these APs.
    fn validations(aps: &[(u64, f64)]) -> Vec<Validation> {
        aps.iter().map(|&(epoch, ap)| Validation { epoch, step: epoch, ap, ap50: 0.0 }).collect()
    }

    /// Lists the epochs that have a checkpoint, after each epoch of a run.
    fn kept(aps: &[(u64, f64)], epochs: u64, keep: u64) -> Vec<Vec<u64>> {
        let (all, mut there) = (validations(aps), BTreeSet::new());
        let after = |epoch| {
            there.insert(epoch);
            let known = all.iter().take_while(|one| one.epoch <= epoch).count();
            for old in expired(&all[..known], epoch, keep) {
                assert!(there.remove(&old), "epoch {old} is removed twice");
            }
            there.iter().copied().collect()
        };
        (1..=epochs).map(after).collect()
    }

    #[test]
    fn the_last_epochs_are_kept() {
        assert_eq!(kept(&[], 4, 1), [[1], [2], [3], [4]]);
        assert_eq!(kept(&[], 4, 2), [vec![1], vec![1, 2], vec![2, 3], vec![3, 4]]);
    }

    #[test]
    fn the_best_epoch_is_kept_until_it_is_surpassed() {
        let aps = [(1, 0.5), (2, 0.4), (3, 0.5), (4, 0.6), (5, 0.1), (6, 0.2)];
        assert_eq!(
            kept(&aps, 6, 1),
            [vec![1], vec![1, 2], vec![1, 3], vec![4], vec![4, 5], vec![4, 6]]
        );
        assert_eq!(
            kept(&aps, 6, 2),
            [vec![1], vec![1, 2], vec![1, 2, 3], vec![3, 4], vec![4, 5], vec![4, 5, 6]]
        );
    }

    #[test]
    fn epochs_without_validation_are_never_the_best() {
        let aps = [(2, 0.3), (4, 0.2), (6, 0.4)];
        assert_eq!(
            kept(&aps, 6, 1),
            [vec![1], vec![2], vec![2, 3], vec![2, 4], vec![2, 5], vec![6]]
        );
    }

    #[test]
    fn a_smaller_number_removes_nothing_of_before() {
        // Three were kept until epoch 4, one is kept from epoch 5 on.
        let aps = validations(&[(1, 0.9), (2, 0.1), (3, 0.2), (4, 0.3), (5, 0.4)]);
        assert_eq!(expired(&aps, 5, 1), [4]);
        // A best one that is surpassed goes, if it is not among the last.
        let aps = validations(&[(1, 0.5), (2, 0.1), (3, 0.2), (4, 0.3), (5, 0.6)]);
        assert_eq!(expired(&aps, 5, 1), [4, 1]);
        assert_eq!(expired(&aps, 5, 5), [0_u64; 0]);
    }

    /// burn-train 0.22's `ComposedCheckpointingStrategy` of `KeepLastNCheckpoints` and of one that keeps the best:
    /// a checkpoint goes when both have let go of it.
    struct Composed {
        keep: u64,
        best: Option<(u64, f64)>,
        let_go: [BTreeSet<u64>; 2],
    }

    impl Composed {
        fn after(&mut self, epoch: u64, ap: Option<f64>) -> Vec<u64> {
            let mut open = Vec::new();
            if let Some(old) = epoch.checked_sub(self.keep).filter(|&old| old > 0) {
                self.let_go[0].insert(old);
                open.push(old);
            }
            match (ap, self.best) {
                (Some(ap), best) if best.is_none_or(|(_, most)| ap > most) => {
                    self.best = Some((epoch, ap));
                    if let Some((old, _)) = best {
                        self.let_go[1].insert(old);
                        open.push(old);
                    }
                }
                _ => {
                    self.let_go[1].insert(epoch);
                }
            }
            open.retain(|old| {
                let both = self.let_go.iter().all(|let_go| let_go.contains(old));
                if both {
                    for let_go in &mut self.let_go {
                        let_go.remove(old);
                    }
                }
                both
            });
            open
        }
    }

    #[test]
    fn decisions_are_those_of_burns_strategies() {
        // Every run of six epochs whose APs are one of three numbers or missing.
        const EPOCHS: u64 = 6;
        for run in 0..4_u32.pow(6) {
            let ap = |epoch: u64| {
                let digit = run / 4_u32.pow(u32::try_from(epoch).unwrap() - 1) % 4;
                (digit > 0).then(|| f64::from(digit))
            };
            let aps: Vec<_> = (1..=EPOCHS).filter_map(|e| Some((e, ap(e)?))).collect();
            let aps = validations(&aps);
            for keep in 1..4 {
                let mut burn = Composed { keep, best: None, let_go: Default::default() };
                for epoch in 1..=EPOCHS {
                    let known = aps.iter().take_while(|one| one.epoch <= epoch).count();
                    let expected = burn.after(epoch, ap(epoch));
                    assert_eq!(expired(&aps[..known], epoch, keep), expected, "{aps:?}, {epoch}");
                }
            }
        }
    }
}
