//! A real browser: Chromium, driven by `tests/browser/page.mjs` through playwright-core.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tokio::process::Command;

use crate::{eventually::within, workspace::root};

/// Where `./test` installs playwright-core.
fn tools() -> PathBuf {
    root().join("target/tools/node")
}

/// Opens a page in every setting of the script and returns what it saw. Screenshots are left in
/// `target/pictures/<name>`.
///
/// # Panics
///
/// Panics if a tool is not there, or the page cannot be opened.
pub async fn look_at(page: &Path, name: &str) -> Value {
    let library = tools().join("node_modules/playwright-core");
    assert!(library.is_dir(), "{} is not there; ./test installs it", library.display());
    let pictures = root().join("target/pictures").join(name);
    if let Err(error) = fs::create_dir_all(&pictures) {
        panic!("{} cannot be made: {error}", pictures.display());
    }
    let mut command = Command::new("node");
    command
        .arg(root().join("tests/browser/page.mjs"))
        .arg(tools())
        .arg("/usr/bin/chromium")
        .args([page, &pictures])
        .kill_on_drop(true);
    let output = match within("the browser", command.output()).await {
        Ok(output) => output,
        Err(error) => panic!("node does not start; ./test installs it: {error}"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the browser (./test installs chromium): {complaint}");
    match serde_json::from_slice(&output.stdout) {
        Ok(seen) => seen,
        Err(error) => panic!("the script said no JSON ({error}): {complaint}"),
    }
}
