//! The Dockerfiles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{files_named, packages, read, yaml};
use crate::support::root;

/// An instruction, with the lines that a backslash joins.
#[derive(Clone)]
struct Instruction {
    /// The line that it begins on, from 1.
    line: usize,
    keyword: String,
    rest: String,
}

/// A stage of a Dockerfile.
struct Stage {
    name: String,
    /// The image or the earlier stage that it begins with.
    base: String,
    instructions: Vec<Instruction>,
}

/// A Dockerfile.
struct Dockerfile {
    /// From the root of the repository.
    path: PathBuf,
    text: String,
    /// The arguments before the first stage, with their defaults.
    args: BTreeMap<String, String>,
    stages: Vec<Stage>,
}

/// Reads the instructions of a Dockerfile.
fn instructions(text: &str) -> Vec<Instruction> {
    let mut found = Vec::new();
    let mut open: Option<Instruction> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (content, goes_on) =
            line.strip_suffix('\\').map_or((line, false), |content| (content.trim_end(), true));
        let instruction = if let Some(mut instruction) = open.take() {
            instruction.rest.push(' ');
            instruction.rest.push_str(content);
            instruction
        } else {
            let (keyword, rest) = content.split_once(' ').unwrap_or((content, ""));
            Instruction { line: index + 1, keyword: keyword.to_owned(), rest: rest.to_owned() }
        };
        if goes_on {
            open = Some(instruction);
        } else {
            found.push(instruction);
        }
    }
    assert!(open.is_none(), "the last line goes on");
    found
}

/// Puts the values of arguments in the place of `${NAME}`.
fn expand(text: &str, args: &BTreeMap<String, String>) -> String {
    args.iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

impl Dockerfile {
    fn read(path: &Path) -> Self {
        let text = read(path);
        let mut args = BTreeMap::new();
        let mut stages: Vec<Stage> = Vec::new();
        for instruction in instructions(&text) {
            match (instruction.keyword.as_str(), stages.last_mut()) {
                ("FROM", _) => {
                    let words: Vec<&str> = instruction.rest.split(' ').collect();
                    let (base, name) = match words.as_slice() {
                        [base, "AS", name] => (base, (*name).to_owned()),
                        [base] => (base, String::new()),
                        _ => panic!("{}:{}: FROM", path.display(), instruction.line),
                    };
                    let base = expand(base, &args);
                    stages.push(Stage { name, base, instructions: Vec::new() });
                }
                ("ARG", None) => {
                    let (name, value) = instruction.rest.split_once('=').unwrap();
                    args.insert(name.to_owned(), expand(value, &args));
                }
                (_, Some(stage)) => stage.instructions.push(instruction),
                (keyword, None) => panic!("{}: {keyword} before FROM", path.display()),
            }
        }
        let path = path.strip_prefix(root()).unwrap().to_owned();
        Self { path, text, args, stages }
    }

    /// Returns the folder that the command in the first comment builds in.
    fn context(&self) -> PathBuf {
        let file = self.path.display().to_string();
        let command = self.text.lines().find(|line| line.contains(&format!("build -f {file} ")));
        let command = command.unwrap_or_else(|| panic!("{file} does not say how it is built"));
        PathBuf::from(command.rsplit(' ').next().unwrap())
    }

    fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Returns the instructions of a stage and, before them, of those that it begins with.
    fn all<'a>(&'a self, stage: &'a Stage) -> Vec<&'a Instruction> {
        let before = self.stage(&stage.base).map(|base| self.all(base)).unwrap_or_default();
        before.into_iter().chain(&stage.instructions).collect()
    }

    /// Returns the stages that become images: those that have an entry point.
    fn images(&self) -> impl Iterator<Item = &Stage> {
        let is_image =
            |stage: &&Stage| stage.instructions.iter().any(|one| one.keyword == "ENTRYPOINT");
        self.stages.iter().filter(is_image)
    }
}

/// Returns the Dockerfiles of the repository.
fn dockerfiles() -> Vec<Dockerfile> {
    files_named("Dockerfile").iter().map(|path| Dockerfile::read(path)).collect()
}

/// Returns the words of COPY without its flags, and the stage after `--from`.
fn copied(instruction: &Instruction) -> (Option<&str>, Vec<&str>) {
    let words = instruction.rest.split(' ').filter(|word| !word.is_empty());
    let (flags, paths): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with("--"));
    (flags.iter().find_map(|flag| flag.strip_prefix("--from=")), paths)
}

/// Returns whether `.dockerignore` lets a path into the context. The last line that fits decides.
fn is_admitted(path: &str) -> bool {
    let mut admitted = true;
    for line in read(".dockerignore").lines().filter(|line| !line.starts_with('#')) {
        let (pattern, admits) = line.strip_prefix('!').map_or((line, false), |rest| (rest, true));
        let below = |pattern: &str| path == pattern || path.starts_with(&format!("{pattern}/"));
        let fits = match pattern.strip_prefix("**/") {
            Some("target") => path.split('/').any(|part| part == "target"),
            Some(name) => path.ends_with(name.trim_start_matches('*')),
            None => pattern == "*" || below(pattern),
        };
        if fits && !pattern.is_empty() {
            admitted = admits;
        }
    }
    admitted
}

#[test]
fn every_source_of_copy_is_there() {
    for file in dockerfiles() {
        let context = file.context();
        for (index, stage) in file.stages.iter().enumerate() {
            for instruction in stage.instructions.iter().filter(|one| one.keyword == "COPY") {
                let place = format!("{}:{}", file.path.display(), instruction.line);
                let (from, paths) = copied(instruction);
                let (_, sources) = paths.split_last().unwrap();
                assert!(!sources.is_empty(), "{place}: nothing to copy");
                for source in sources {
                    let Some(from) = from else {
                        let path = root().join(&context).join(source);
                        assert!(path.exists(), "{place}: {} does not exist", path.display());
                        let is_whole = context != Path::new(".") || *source == ".";
                        assert!(
                            is_whole || is_admitted(source),
                            "{place}: .dockerignore: {source}"
                        );
                        continue;
                    };
                    let earlier = &file.stages[..index];
                    let Some(made) = earlier.iter().find(|stage| stage.name == from) else {
                        panic!("{place}: no earlier stage {from}");
                    };
                    // An image without commands of ours has what its publisher put there.
                    let all = file.all(made);
                    let is_named = all.iter().any(|one| one.rest.contains(source));
                    assert!(all.is_empty() || is_named, "{place}: {from} does not make {source}");
                }
            }
        }
    }
}

#[test]
fn every_package_feature_and_program_of_a_build_exists() {
    let packages = packages();
    let mut builds = 0;
    for file in dockerfiles() {
        for stage in &file.stages {
            for instruction in &stage.instructions {
                let place = format!("{}:{}", file.path.display(), instruction.line);
                let Some((_, command)) = instruction.rest.split_once("cargo build ") else {
                    continue;
                };
                builds += 1;
                let command = command.split(" && ").next().unwrap();
                let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
                let after = |flag: &str| {
                    let index = words.iter().position(|word| *word == flag);
                    let index = index.unwrap_or_else(|| panic!("{place}: {flag} is missing"));
                    words[index + 1]
                };
                assert!(words.contains(&"--locked"), "{place}: --locked is missing");
                assert_eq!(after("--profile"), "\"$PROFILE\"", "{place}");
                let name = after("-p");
                let package = packages.get(name);
                let package = package.unwrap_or_else(|| panic!("{place}: no package {name}"));
                for feature in after("--features").split(',') {
                    let is_known = package.features.contains(feature);
                    assert!(is_known, "{place}: {name} has no feature {feature}");
                }
                if let Some((_, program)) = instruction.rest.split_once("\"target/$PROFILE/") {
                    let program = program.split('"').next().unwrap();
                    let is_one = package.programs.contains(program);
                    assert!(is_one, "{place}: {name} has no program {program}");
                }
            }
        }
    }
    assert_eq!(builds, 6, "three images, each with its dependencies and its program");
}

/// Returns the words of an instruction in the form of a JSON list, after `CMD` for health checks.
fn list(text: &str) -> Vec<String> {
    let start = text.find('[').unwrap_or_else(|| panic!("not a list: {text}"));
    serde_json::from_str(&text[start..]).unwrap()
}

#[test]
fn every_image_starts_a_program_that_it_has_and_is_not_root() {
    for file in dockerfiles() {
        for stage in file.images() {
            let place = format!("{} {}", file.path.display(), stage.name);
            let all = file.all(stage);
            let last = |keyword: &str| {
                let found = all.iter().rev().find(|one| one.keyword == keyword);
                &found.unwrap_or_else(|| panic!("{place}: {keyword} is missing")).rest
            };
            let copies = all.iter().filter(|one| one.keyword == "COPY").map(|one| copied(one).1);
            let has = |program: &str| {
                copies.clone().any(|paths| {
                    let (to, sources) = paths.split_last().unwrap();
                    let name = program.rsplit('/').next().unwrap();
                    let inside =
                        to.ends_with('/') && sources.iter().any(|path| path.ends_with(name));
                    to.rsplit('/').next() == Some(name) || inside
                })
            };
            let entry = &list(last("ENTRYPOINT"))[0];
            assert!(has(entry), "{place}: starts {entry}, which nobody copied");
            let health = last("HEALTHCHECK");
            if health != "NONE" {
                let check = &list(health)[0];
                assert!(has(check), "{place}: asks {check}, which nobody copied");
            }
            assert!(last("USER").starts_with("10001"), "{place}: USER {}", last("USER"));
            assert_eq!(last("STOPSIGNAL"), "SIGTERM", "{place}");
            let labels: String = all
                .iter()
                .filter(|one| one.keyword == "LABEL")
                .flat_map(|one| [one.rest.as_str(), " "])
                .collect();
            for label in ["title", "description", "licenses"] {
                let label = format!("org.opencontainers.image.{label}=");
                assert!(labels.contains(&label), "{place}: {label}");
            }
        }
    }
}

#[test]
fn versions_are_pinned_and_agree() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let rust = toolchain["toolchain"]["channel"].as_str().unwrap();
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let version = workspace["workspace"]["package"]["version"].as_str().unwrap();
    for file in dockerfiles() {
        let place = file.path.display();
        for stage in &file.stages {
            let base = &stage.base;
            let is_pinned = file.stage(base).is_some()
                || base.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest");
            assert!(is_pinned, "{place}: {base} has no tag");
        }
        if let Some(used) = file.args.get("RUST") {
            assert_eq!(used, rust, "{place}: another Rust than rust-toolchain.toml's");
            assert!(file.text.contains("RUSTUP_TOOLCHAIN=${RUST}"), "{place}");
        }
        for line in file.text.lines().filter_map(|line| line.strip_prefix("ARG VERSION=")) {
            assert_eq!(line, version, "{place}: another version than the workspace's");
        }
        if let Some(cuda) = file.args.get("CUDA") {
            let parts: Vec<&str> = cuda.split('.').collect();
            assert_eq!(file.args["CUDA_PACKAGES"], parts[..2].join("-"), "{place}");
            assert_eq!(file.args["CUDA_DRIVER"], parts[..2].join("."), "{place}");
            assert_eq!(file.args["CUDARC"], format!("{}0{}0", parts[0], parts[1]), "{place}");
        }
    }
}

/// The port that the images of the server expose.
pub(super) fn port() -> u64 {
    let servers = ["deploy/docker/cpu.Dockerfile", "deploy/docker/cuda.Dockerfile"];
    let ports: Vec<u64> = servers
        .iter()
        .map(|path| {
            let file = Dockerfile::read(&root().join(path));
            let server = file.stage("server").unwrap();
            let exposed = server.instructions.iter().find(|one| one.keyword == "EXPOSE");
            exposed.unwrap().rest.parse().unwrap()
        })
        .collect();
    assert_eq!(ports[0], ports[1]);
    ports[0]
}

#[test]
fn the_compose_file_builds_stages_that_exist() {
    let compose = yaml("deploy/docker/compose.train.yaml");
    for (name, service) in compose["services"].as_object().unwrap() {
        let build = &service["build"];
        let context = root().join("deploy/docker").join(build["context"].as_str().unwrap());
        let file = context.join(build["dockerfile"].as_str().unwrap_or("Dockerfile"));
        let file = Dockerfile::read(&file.canonicalize().unwrap());
        if let Some(target) = build["target"].as_str() {
            assert!(file.stage(target).is_some(), "{name}: no stage {target}");
        }
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(
                compose["volumes"].as_object().unwrap().contains_key(source),
                "{name}: {source}"
            );
        }
        for other in service["depends_on"].as_object().into_iter().flat_map(|map| map.keys()) {
            assert!(compose["services"].get(other).is_some(), "{name}: {other}");
        }
    }
}
