//! One process per folder of a run, and the signals that stop it.

use std::path::Path;

use detr_infer::cli::CliError;
use detr_train::StopFlag;
use detr_types::fs::{LockError, LockFile};

/// Makes sure that no other process trains in a folder, or says which one does.
pub(super) fn lock(folder: &Path) -> Result<LockFile, CliError> {
    let path = folder.join("lock");
    LockFile::take(&path).map_err(|error| match error {
        LockError::Held(pid) => CliError::Usage(format!(
            "{}: process {pid} trains in this folder\nhint: give another --output, or stop it first",
            folder.display()
        )),
        LockError::Io(error) => {
            CliError::Failed(format!("cannot lock {}: {error}", path.display()))
        }
    })
}

/// Asks for a checkpoint and a stop at the first SIGINT, SIGTERM or SIGUSR1, and ends the process at a
/// second SIGINT or SIGTERM. A terminal that goes away does not.
#[cfg(unix)]
pub(super) fn catch_signals(stop: &StopFlag) -> Result<(), CliError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    let failed = |error| CliError::Failed(format!("cannot catch signals: {error}"));
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP]).map_err(failed)?;
    let stop = stop.clone();
    let listen = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => (),
                SIGINT | SIGTERM if stop.should_stop() => std::process::exit(130),
                _ => stop.stop(),
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(failed)?;
    Ok(())
}

/// Asks for a checkpoint and a stop at the first SIGINT, and ends the process at a second one.
#[cfg(not(unix))]
pub(super) fn catch_signals(stop: &StopFlag) -> Result<(), CliError> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use signal_hook::consts::SIGINT;
    let failed = |error| CliError::Failed(format!("cannot catch signals: {error}"));
    let signalled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, signalled.clone())
        .map_err(failed)?;
    signal_hook::flag::register(SIGINT, signalled.clone()).map_err(failed)?;
    let stop = stop.clone();
    let watch = move || {
        while !signalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.stop();
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}
