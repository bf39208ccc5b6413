//! Tests of what arguments expand to and of the messages when they do not.

use super::*;
use std::fs::{create_dir_all, write};

/// Makes a folder with empty files.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, b"").unwrap();
    }
    folder
}

/// Expands arguments inside a folder, and returns paths relative to it.
fn expand(root: &Path, args: &[&str]) -> Result<(Vec<String>, usize), String> {
    let inside = |arg: &&str| match arg.strip_prefix('@') {
        Some(list) => format!("@{}", root.join(list).display()),
        None if *arg == "-" => "-".to_owned(),
        None => root.join(arg).display().to_string(),
    };
    let args: Vec<String> = args.iter().map(inside).collect();
    let (sources, duplicates) = expand_sources_counted(&args).map_err(|error| error.to_string())?;
    let relative = |source: &Source| match source {
        Source::File(path) => {
            path.strip_prefix(root).unwrap().display().to_string().replace('\\', "/")
        }
        Source::Stdin => source.name(),
    };
    Ok((sources.iter().map(relative).collect(), duplicates))
}

#[test]
fn every_kind_of_argument_expands_in_order_and_by_name() {
    let root = folder(&[
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "._a.PNG",
        "sub/c.webp",
        "sub/deep/d.jpg",
        "ä ö/Straße 1.jpeg",
        "odd[1].jpg",
        "x.jpg/inner.jpg",
    ]);
    for (args, expected) in [
        (&["b.jpg"][..], &["b.jpg"][..]),
        (&["notes.txt"], &["notes.txt"]), // named explicitly: up to the reader
        (&[""], &["a.PNG", "b.jpg", "odd[1].jpg"]),
        (&["sub", "-", "b.jpg"], &["sub/c.webp", "stdin", "b.jpg"]),
        (&["ä ö"], &["ä ö/Straße 1.jpeg"]),
        (&["*.jpg"], &["b.jpg", "odd[1].jpg"]),
        (&["?.*"], &["a.PNG", "b.jpg"]),
        (&["[ab].*"], &["a.PNG", "b.jpg"]),
        (&["odd[1].jpg"], &["odd[1].jpg"]),
        (&["sub/**/*.*"], &["sub/c.webp", "sub/deep/d.jpg"]),
        (&["ä */*.jpeg"], &["ä ö/Straße 1.jpeg"]),
    ] {
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(expand(root.path(), args), Ok((expected, 0)), "{args:?}");
    }
}

#[test]
fn lists_are_relative_to_their_folder_and_may_name_missing_files() {
    let root = folder(&["sub/a b.jpg"]);
    let absolute = root.path().join("sub/ü.jpg").display().to_string();
    let text = format!("\u{feff}# images\r\na b.jpg\r\n\r\n  gone.png  \n{absolute}\n-\n");
    write(root.path().join("sub/list.txt"), text).unwrap();
    let expected = ["sub/a b.jpg", "sub/gone.png", "sub/ü.jpg", "sub/-"];
    let expected = (expected.map(str::to_owned).to_vec(), 0);
    assert_eq!(expand(root.path(), &["@sub/list.txt"]), Ok(expected));
}

#[test]
fn duplicates_keep_their_first_place() {
    let root = folder(&["a.jpg", "b.jpg", "sub/c.jpg"]);
    let (sources, duplicates) =
        expand(root.path(), &["b.jpg", "", "sub/../b.jpg", "./*.jpg"]).unwrap();
    assert_eq!((sources, duplicates), (vec!["b.jpg".to_owned(), "a.jpg".to_owned()], 4));
}

#[test]
fn arguments_that_lead_nowhere_are_named() {
    let root = folder(&["empty/notes.txt", "comments.txt", "wide.txt"]);
    write(root.path().join("comments.txt"), "# nothing\n\n").unwrap();
    write(root.path().join("wide.txt"), b"a.jpg\n\xff\xfeb\0").unwrap();
    for (args, parts) in [
        (&["gone.jpg"][..], &["no such file or folder", "gone.jpg`"][..]),
        (&["@gone.txt"], &["no such file or folder", "gone.txt`"]),
        (&["empty"], &["no images directly in folder", "hint:", "**"]),
        (&["*.gif"], &["no file matches", "*.gif"]),
        (&["empt?"], &["no file matches"]),
        (&["a[.jpg"], &["neither a file nor a glob", "a[.jpg", "hint:"]),
        (&["@comments.txt"], &["comments.txt names no images"]),
        (&["@wide.txt"], &["wide.txt is not UTF-8 text (line 2)"]),
        (&["@empty"], &["cannot read", "empty"]),
        (&["-", "-"], &["only once"]),
        (&[], &["no images given"]),
    ] {
        let message = expand(root.path(), args).unwrap_err();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn broken_links_in_a_folder_are_left_to_the_reader() {
    let root = folder(&["a.jpg"]);
    std::os::unix::fs::symlink("nowhere", root.path().join("b.jpg")).unwrap();
    let expected = (vec!["a.jpg".to_owned(), "b.jpg".to_owned()], 0);
    assert_eq!(expand(root.path(), &[""]), Ok(expected.clone()));
    assert_eq!(expand(root.path(), &["*.jpg"]), Ok(expected));
}
