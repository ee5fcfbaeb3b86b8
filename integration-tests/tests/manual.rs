//! The manual names every setting, and its configuration files are ones that pgherd accepts.

use std::fs;
use std::path::{Path, PathBuf};

const SETTINGS: &str = include_str!("../../config/src/raw.rs");

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The pages, by name.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<(String, String)> = fs::read_dir(docs())
        .expect("docs is a folder of the repository")
        .map(|entry| entry.expect("docs can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a page is text"))
        })
        .collect();
    pages.sort();
    pages
}

/// The string that follows, past white space; the text behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix('"')?.split_once('"')
}

/// What `raw.rs` reads or refuses by name: `section.value("size", ...)`, `section.not_yet(&["tls", "admins"], ...)`.
fn settings() -> Vec<&'static str> {
    let mut found = Vec::new();
    for call in [".value(", ".required(", ".list(", ".section("] {
        found.extend(SETTINGS.split(call).skip(1).filter_map(quoted).map(|(name, _)| name));
    }
    for call in ["in_section(&mut ", "in_sections(&mut ", "in_named(&mut "] {
        let arguments = SETTINGS.split(call).skip(1).filter_map(|rest| rest.split_once(','));
        found.extend(arguments.filter_map(|(_, rest)| quoted(rest)).map(|(name, _)| name));
    }
    for list in ["not_yet(&[", "SECTIONS_NOT_YET: &[&str] =\n    &["] {
        for rest in SETTINGS.split(list).skip(1) {
            let names = rest.split(']').next().expect("split gives at least one part");
            found.extend(names.split('"').skip(1).step_by(2));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn every_setting_is_in_the_manual() {
    let settings = settings();
    // If raw.rs is written in another way one day, the search above must not find nothing and be content.
    for known in ["listen", "checkout_timeout", "primary", "shards", "pinned_max", "gather"] {
        assert!(settings.contains(&known), "{known} is not found in raw.rs any more: {settings:?}");
    }
    let page = fs::read_to_string(docs().join("configuration.md")).expect("the page of settings is there");
    let missing: Vec<_> = settings
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")) && !page.contains(&format!("[{name}]")))
        .collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:?}");
}

#[test]
fn the_configurations_in_the_manual_are_accepted_as_they_stand() {
    let mut files = 0;
    for (name, page) in pages() {
        for rest in page.split("```toml\n").skip(1) {
            let text = rest.split("```").next().expect("split gives at least one part");
            files += 1;
            if let Err(problems) = pgherd_config::parse(text, &name) {
                panic!("{text}\n{}", problems.lines().collect::<Vec<_>>().join("\n"));
            }
        }
    }
    assert!(files > 0, "the manual has a configuration file");
}
