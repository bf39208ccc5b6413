//! Runs the real binaries, as a user would: in an empty folder, with a clean environment and a
//! time limit. What holds for every run, good or bad, is checked here: no panic, no hang.

pub(crate) mod devices;
pub(crate) mod images;
pub(crate) mod server;
pub(crate) mod weights;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A run that takes longer hangs. Most need milliseconds, a training of some hundred steps a minute; without
/// optimisation and on a busy machine, several.
const PATIENCE: Duration = Duration::from_mins(if cfg!(debug_assertions) { 5 } else { 2 });

/// Flags that make the tiny models of the golden folder quick.
pub(crate) const QUICK: [&str; 6] = ["--size", "64", "--max-size", "96", "--backend", "flex"];

/// Returns the folder of checkpoints.
pub(crate) fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/13_checkpoints").join(file)
}

/// Returns the root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `target` and the folder of this profile in it.
pub(crate) fn target() -> (PathBuf, PathBuf) {
    let program = std::env::current_exe().unwrap();
    let profile = program.ancestors().nth(2).unwrap().to_owned();
    (profile.parent().unwrap().to_owned(), profile)
}

/// `cargo`, the one that runs this test.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Variables that are set for this test program would look to build scripts as if their package
    // had changed.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|known| name.starts_with(known)) {
            command.env_remove(name);
        }
    }
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Returns the flags that choose the profile of this test program.
pub(crate) fn profile_flags() -> Vec<String> {
    let (_, profile) = target();
    match profile.file_name().unwrap().to_str().unwrap() {
        "debug" => Vec::new(),
        "release" => vec!["--release".to_owned()],
        other => vec!["--profile".to_owned(), other.to_owned()],
    }
}

/// Returns the folder of the binaries. Cargo builds the binaries of other packages for no test, so
/// they are built here: with the features of this program, so that nothing but they is new.
pub(crate) fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let (target, profile) = target();
        let features = [
            ("flex", cfg!(feature = "flex")),
            ("ndarray", cfg!(feature = "ndarray")),
            ("wgpu", cfg!(feature = "wgpu")),
            ("vulkan", cfg!(feature = "vulkan")),
            ("cuda", cfg!(feature = "cuda")),
            ("fusion", cfg!(feature = "fusion")),
            ("autotune", cfg!(feature = "autotune")),
            ("serve", cfg!(feature = "serve")),
        ];
        let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(n, _)| *n).collect();
        let mut build = cargo();
        // The package of the tests is named too: it has a binary, and it turns on features of shared crates.
        build.args(["build", "--quiet", "--bins", "-p", "detr-tests"]);
        build.args([
            "-p",
            "detr-infer",
            "-p",
            "detr-cli",
            "-p",
            "detr-bench",
            "--no-default-features",
        ]);
        build.arg("--features").arg(features.join(",")).arg("--target-dir").arg(target);
        build.args(profile_flags());
        let status = build.status().expect("cargo starts");
        assert!(status.success(), "the binaries cannot be built: {build:?}");
        profile
    })
}

/// One run of a binary, to be.
pub(crate) struct Run {
    command: Command,
    stdin: Vec<u8>,
    closed_stdout: bool,
    closed_stderr: bool,
    /// Working folder, home and caches.
    folder: TempDir,
}

/// The result of a finished program.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Most memory it had at once, where the system tells.
    pub(crate) peak_bytes: Option<u64>,
}

/// `detr-infer` with arguments.
pub(crate) fn detr_infer(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
    Run::new("detr-infer", args)
}

/// `detr` with arguments.
pub(crate) fn detr(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
    Run::new("detr", args)
}

/// `detr-bench` with arguments.
pub(crate) fn detr_bench(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
    Run::new("detr-bench", args)
}

/// `detr` with arguments, and with a trainer that fails as `faults` says; see `src/bin/detr-with-faults.rs`.
pub(crate) fn detr_with_faults(
    faults: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Run {
    Run::new("detr-with-faults", [faults]).args(args)
}

/// Runs one of the two programs of the users by its name.
pub(crate) fn program(name: &str, args: &[&str]) -> Run {
    Run::new(name, args)
}

/// Runs an example of the library, if it was built: `cargo test --workspace` does so, a test by itself does not.
pub(crate) fn example(name: &str, args: &[&str]) -> Option<Run> {
    let name = format!("examples/{name}");
    let path = binaries().join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    path.exists().then(|| Run::new(&name, args))
}

impl Run {
    fn new(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = binaries().join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let proxy = name.to_ascii_lowercase().ends_with("_proxy");
            if proxy || ["HF_", "DETR_", "RUST_"].iter().any(|known| name.starts_with(known)) {
                command.env_remove(name);
            }
        }
        for name in ["HF_HOME", "HOME", "XDG_RUNTIME_DIR"] {
            command.env(name, folder.path());
        }
        command.env("NO_COLOR", "1").args(args).current_dir(folder.path());
        Self { command, stdin: Vec::new(), closed_stdout: false, closed_stderr: false, folder }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds the flags of [`QUICK`].
    pub(crate) fn quick(self) -> Self {
        self.args(QUICK)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs somewhere else than in an empty folder.
    pub(crate) fn inside(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// Closes the reading end of what it prints.
    pub(crate) fn closed_stdout(mut self) -> Self {
        self.closed_stdout = true;
        self
    }

    /// Closes the reading end of what it says on stderr.
    pub(crate) fn closed_stderr(mut self) -> Self {
        self.closed_stderr = true;
        self
    }

    /// Limits the size of files to so many KiB; writing more is an error.
    #[cfg(unix)]
    pub(crate) fn with_file_limit(mut self, kib: u32) -> Self {
        let mut limited = Command::new("sh");
        // POSIX counts in blocks of 512 bytes.
        limited.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2));
        limited.arg("sh").arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited.current_dir(self.folder.path());
        self.command = limited;
        self
    }

    /// Starts it and does not wait; its output goes into files in its folder.
    pub(crate) fn start(mut self) -> Running {
        let file = |name: &str| std::fs::File::create(self.folder.path().join(name)).unwrap();
        self.command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = self.command.spawn().expect("the binary starts");
        Running { child, folder: self.folder }
    }

    /// Runs it to its end, and returns the exit code and both outputs as a terminal would show them.
    pub(crate) fn run_as_shown(mut self) -> (i32, String) {
        let (reader, writer) = std::io::pipe().unwrap();
        let command = &mut self.command;
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let shown = format!("{command:?}");
        let mut child = command.spawn().expect("the binary starts");
        // Closes this side's copies of the pipe.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let output = read_all(reader);
        let (status, _) = wait(&mut child, &shown);
        let output = String::from_utf8(output.join().unwrap()).unwrap();
        assert!(!output.contains("panicked at"), "{shown}\n{output}");
        (status.code().unwrap_or(-1), output)
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Outcome {
        let command = &mut self.command;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A write into a pipe that nobody reads is an error.
        let unread = || std::io::pipe().unwrap().1;
        if self.closed_stdout {
            command.stdout(unread());
        }
        if self.closed_stderr {
            command.stderr(unread());
        }
        let shown = format!("{command:?}");
        let mut child = command.spawn().expect("the binary starts");
        // Closes this side's copies of pipes.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        let mut stdin = child.stdin.take().unwrap();
        let input = std::mem::take(&mut self.stdin);
        // A program that does not read its input is not at fault.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let (status, peak_bytes) = wait(&mut child, &shown);
        writer.join().unwrap();
        let text = |reader: Option<JoinHandle<Vec<u8>>>| {
            reader.map_or_else(String::new, |reader| {
                String::from_utf8_lossy(&reader.join().unwrap()).into_owned()
            })
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        let Some(code) = status.code() else { panic!("{shown}\ndied: {status}\n{stderr}") };
        for word in ["panicked at", "internal error", "stack overflow", "memory allocation of"] {
            assert!(!stderr.contains(word), "{shown}\n{stderr}");
        }
        assert_ne!(code, 101, "{shown}\n{stderr}");
        drop(self.folder);
        Outcome { code, stdout, stderr, peak_bytes }
    }
}

/// A run on its way.
pub(crate) struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    /// Returns whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns what it has printed to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    /// Returns what it has said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Ends it at once. One that has ended already stays as it is.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end: the exit code, none if a signal ended it, and what it said on stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let (status, _) = wait(&mut self.child, "a run that was started");
        let stderr = std::fs::read_to_string(self.folder.path().join("stderr")).unwrap();
        assert!(!stderr.contains("panicked at") && !stderr.contains("internal error"), "{stderr}");
        (status.code(), stderr)
    }
}

impl Outcome {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Parses standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Parses every line of standard output as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns whether the last line on stderr is a hint.
    pub(crate) fn ends_with_hint(&self) -> bool {
        self.stderr.trim_end().lines().last().is_some_and(|line| line.starts_with("hint: "))
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn wait(child: &mut Child, shown: &str) -> (std::process::ExitStatus, Option<u64>) {
    let start = Instant::now();
    let mut peak = None;
    loop {
        peak = peak_of(child.id()).or(peak);
        if let Some(status) = child.try_wait().unwrap() {
            return (status, peak);
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{shown}\nstill ran after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Reads the high-water mark of a running process; it only grows, so the last look tells the peak.
fn peak_of(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Makes a folder of files, each with its content.
pub(crate) fn folder_with<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Lists the names of everything in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
