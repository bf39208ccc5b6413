//! `detr`: one program for all work with DETR models. All it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    detr_cli::main(std::env::args_os(), &|trainer| Box::new(trainer))
}
