//! A test with the clients of MLflow and Triton, which runs where a Python has them.

use std::process::Command;

use detr_types::env;

use super::{SMALL, Server, pictures, shapes};
use crate::support::{detr, folder_with};

#[test]
fn clients_of_other_people_get_what_the_command_line_prints() {
    let Some(python) = std::env::var_os(env::DETR_TEST_CLIENTS) else { return };
    let mut files = pictures();
    // Ten pictures.
    files.push(("again.png".to_owned(), files[1].1.clone()));
    let folder = folder_with(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    let run = detr(["predict", "--json", "--backend", "flex", "--model"]).arg(shapes());
    let printed = run.args(SMALL).args(&names).inside(folder.path()).run().expect(0).stdout;
    std::fs::write(folder.path().join("printed.json"), printed).unwrap();
    let server = Server::start(&[&SMALL[..], &["--max-batch", "4", "--max-delay", "5"]].concat());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/serve/clients.py");
    let mut python = Command::new(python);
    python.arg(script).arg(&server.address).arg("printed.json").args(names);
    let outcome = python.current_dir(folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{stderr}");
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("all equal"), "{stderr}");
}
