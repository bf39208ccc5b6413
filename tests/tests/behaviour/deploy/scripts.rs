//! The scripts of the images, run here.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use super::metadata;
use crate::support::root;

/// Returns a script of `deploy/docker`, to be run with bash.
fn script(path: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("deploy/docker").join(path));
    for name in ["SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT", "COCO_KEEP", "COCO_BACKBONE"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(command: &mut Command) -> Output {
    command.output().expect("bash starts")
}

#[cfg(unix)]
#[test]
fn the_layer_of_dependencies_has_the_manifests_and_targets_of_the_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let made = run(script("stub-sources.sh").arg(root()).arg(&folder));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let shape = |workspace: &Path| {
        let tree = metadata(workspace);
        tree.to_string().replace(workspace.to_str().unwrap(), "")
    };
    assert_eq!(shape(&folder), shape(&root().canonicalize().unwrap()));
    let main = std::fs::read_to_string(folder.join("crates/detr-cli/src/bin/detr.rs")).unwrap();
    assert_eq!(main, "fn main() {}\n");
    let wrong = run(script("stub-sources.sh").arg(folder.join("xtask/src")).arg(&folder));
    assert_eq!(wrong.status.code(), Some(3), "{}", text(&wrong.stderr));
}

#[cfg(unix)]
#[test]
fn the_server_starts_with_the_defaults_of_a_container() {
    use std::os::unix::fs::PermissionsExt;

    // A `detr` that prints what it is called with.
    let folder = tempfile::tempdir().unwrap();
    let detr = folder.path().join("detr");
    std::fs::write(&detr, "#!/bin/sh\necho \"$@\"\n").unwrap();
    std::fs::set_permissions(&detr, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let start = |args: &[&str]| {
        let path = format!("{}:{path}", folder.path().display());
        run(script("server/start.sh").args(args).env("PATH", path))
    };
    for (args, expected) in [
        (&["serve", "--model", "m"][..], "serve --host 0.0.0.0 --model m"),
        (&["serve", "--model=m", "--host=::"], "serve --model=m --host=::"),
        (&["--model", "a=m", "--port", "9"], "serve --host 0.0.0.0 --model a=m --port 9"),
        (&["devices", "--json"], "devices --json"),
    ] {
        let done = start(args);
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        assert_eq!(text(&done.stdout).trim_end(), expected);
    }
    if !["/opt/ml/model", "/mnt/models", "/models"].iter().any(|path| Path::new(path).exists()) {
        for args in [&["serve"][..], &[]] {
            let done = start(args);
            assert_eq!(done.status.code(), Some(2), "{args:?}");
            assert!(text(&done.stderr).contains("\nhint: "), "{}", text(&done.stderr));
        }
    }
}

/// Answers one connection with a status line, and returns what was asked.
fn answer(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        asked.push(byte[0]);
    }
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
    text(&asked)
}

#[cfg(unix)]
#[test]
fn the_health_check_is_that_of_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for (status, code) in [("200 OK", 0), ("503 Service Unavailable", 1), ("404 Not Found", 1)] {
        let check = script("server/health.sh").env("AIP_HTTP_PORT", &port).spawn().unwrap();
        let asked = answer(&listener, status);
        assert!(asked.starts_with("GET /v2/health/ready HTTP/1.1\r\nHost: "), "{asked}");
        assert_eq!(check.wait_with_output().unwrap().status.code(), Some(code), "{status}");
    }
    drop(listener);
    // Nobody listens.
    assert_eq!(run(script("server/health.sh").arg(&port)).status.code(), Some(1));
}

/// Returns whether the programs of the script that fetches COCO are here.
#[cfg(unix)]
fn can_fetch() -> bool {
    let has = |name: &str| Command::new(name).arg("--version").output().is_ok();
    ["curl", "unzip", "flock"].iter().all(|name| has(name))
}

/// Writes an archive as COCO's are, and returns its line of the table.
#[cfg(unix)]
fn archive(mirror: &Path, name: &str, files: &[(&str, &[u8])]) -> String {
    use sha2::{Digest, Sha256};

    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (file, bytes) in files {
        writer.start_file(*file, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    std::fs::write(mirror.join(format!("{name}.zip")), &bytes).unwrap();
    let digest = Sha256::digest(&bytes);
    let sum = digest.iter().fold(String::new(), |sum, byte| sum + &format!("{byte:02x}"));
    format!("{name}\t{name}.zip\t{}\t{sum}\n", bytes.len())
}

#[cfg(unix)]
#[test]
fn coco_is_fetched_with_resume_checked_and_unpacked_once() {
    if !can_fetch() {
        eprintln!("not tried: curl, unzip or flock is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mirror = folder.path().join("mirror");
    let coco = folder.path().join("coco");
    std::fs::create_dir_all(coco.join(".archives")).unwrap();
    std::fs::create_dir(&mirror).unwrap();
    let picture = vec![7; 50_000];
    let table = [
        archive(&mirror, "val2017", &[("val2017/1.jpg", &picture), ("val2017/2.jpg", &picture)]),
        archive(&mirror, "annotations", &[("annotations/instances_val2017.json", b"{}")]),
    ];
    std::fs::write(folder.path().join("table.tsv"), table.concat()).unwrap();
    let fetch = |coco: &Path, parts: &str| {
        let mut command = script("coco/fetch-coco.sh");
        command.arg(coco).env("COCO_MIRROR", format!("file://{}", mirror.display()));
        command.env("COCO_ARCHIVES", folder.path().join("table.tsv"));
        command.env("COCO_PARTS", parts).env("COCO_TRIES", "2").env("COCO_PAUSE", "0");
        let done = run(&mut command);
        (done.status.code(), text(&done.stderr))
    };
    let whole = std::fs::read(mirror.join("val2017.zip")).unwrap();
    // A download that was stopped, and an unpacking that was.
    std::fs::write(coco.join(".archives/val2017.zip.part"), &whole[..60_000]).unwrap();
    std::fs::create_dir(coco.join(".unpacking-val2017")).unwrap();
    std::fs::write(coco.join(".unpacking-val2017/rest"), "x").unwrap();
    let (code, said) = fetch(&coco, "val2017 annotations");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("goes on at byte 60000\n"), "{said}");
    assert_eq!(std::fs::read(coco.join("val2017/2.jpg")).unwrap(), picture);
    assert!(coco.join("annotations/instances_val2017.json").exists());
    assert!(!coco.join(".unpacking-val2017").exists());
    assert_eq!(coco.join(".archives").read_dir().unwrap().count(), 0);

    // Nothing is fetched or unpacked again.
    std::fs::remove_file(mirror.join("val2017.zip")).unwrap();
    std::fs::remove_file(coco.join("val2017/1.jpg")).unwrap();
    let (code, said) = fetch(&coco, "val2017");
    assert_eq!((code, coco.join("val2017/1.jpg").exists()), (Some(0), false), "{said}");

    // Another byte, another length, and nothing at all: no folder of pictures appears.
    let mut other = whole.clone();
    other[100] ^= 1;
    for (bytes, expected) in [(&other[..], 3), (&whole[..1000], 3), (&[], 4)] {
        if bytes.is_empty() {
            std::fs::remove_file(mirror.join("val2017.zip")).unwrap();
        } else {
            std::fs::write(mirror.join("val2017.zip"), bytes).unwrap();
        }
        let place = folder.path().join(format!("bad-{}", bytes.len()));
        let (code, said) = fetch(&place, "val2017");
        assert_eq!(code, Some(expected), "{said}");
        assert!(said.contains("\nhint: ") && !place.join("val2017").exists(), "{said}");
    }
    let (code, said) = fetch(&folder.path().join("none"), "val2017 nothing");
    assert_eq!((code, folder.path().join("none").exists()), (Some(2), false), "{said}");
}

#[test]
fn the_table_of_coco_has_sizes_and_sums() {
    let table = super::read("deploy/docker/coco/archives.tsv");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["train2017", "val2017", "annotations", "panoptic"]);
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(row[2].parse::<u64>().unwrap() > 100_000_000, "{row:?}");
        assert!(row[3].len() == 64 && row[3].bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
