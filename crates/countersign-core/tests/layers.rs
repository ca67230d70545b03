//! The layers inside this crate: each knows only those before it, and no module leads back to itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: [&str; 3] = ["model", "store", "flow"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module of a file: `model::index::table` for `model/index/table.rs`.
fn module(root: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Every path that starts with `crate::` or `super::` in the text, but for tests and comments, as names from the crate's
/// root.
fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let is_inside = code.get(..start).unwrap().ends_with("::");
        let rest = code.get(start..).unwrap();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        let mut path: Vec<_> = path.split("::").filter(|part| !part.is_empty()).collect();
        let mut from = module.to_vec();
        if path.first() == Some(&"crate") {
            from.clear();
            path.remove(0);
        }
        while path.first() == Some(&"super") {
            from.pop();
            path.remove(0);
        }
        let path: Vec<String> = from.into_iter().chain(path.into_iter().map(str::to_owned)).collect();
        if is_inside {
            continue;
        }
        match after.strip_prefix('{') {
            Some(list) => found.extend(listed(list).into_iter().map(|item| {
                let names = item.split("::").map(str::to_owned);
                path.iter().cloned().chain(names).collect()
            })),
            None => found.push(path),
        }
    }
    found
}

/// The paths of a list in braces, whose opening brace was read: `a::{b, c::d}, e}` has `a::b`, `a::c::d` and `e`.
fn listed(text: &str) -> Vec<String> {
    let (mut found, mut outer, mut item) = (Vec::new(), vec![String::new()], String::new());
    let prefix = |outer: &[String]| outer.last().cloned().unwrap_or_default();
    for c in text.chars() {
        match c {
            '{' => outer.push(prefix(&outer) + &std::mem::take(&mut item)),
            ',' | '}' => {
                if !item.is_empty() {
                    found.push(prefix(&outer) + &std::mem::take(&mut item));
                }
                if c == '}' {
                    outer.pop();
                    if outer.is_empty() {
                        break;
                    }
                }
            }
            c if c.is_whitespace() => {}
            c => item.push(c),
        }
    }
    found
}

/// In which module of a layer a name is that the layer gives to others, by its `pub use` lines.
fn given_by(root: &Path) -> BTreeMap<(String, String), String> {
    let mut given = BTreeMap::new();
    for layer in LAYERS {
        let text = fs::read_to_string(root.join(layer).join("mod.rs")).unwrap();
        for line in text.split(';').filter_map(|part| part.trim().strip_prefix("pub use ")) {
            let (module, names) = line.split_once("::").unwrap();
            for name in names.trim_matches(['{', '}']).split(',') {
                given.insert((layer.to_owned(), name.trim().to_owned()), module.to_owned());
            }
        }
    }
    given
}

#[test]
fn a_layer_knows_only_those_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let layer =
        |path: &[String]| LAYERS.iter().position(|layer| path.first().is_some_and(|first| first == layer));
    let mut upward = Vec::new();
    let mut seen = 0;
    for file in &files {
        let here = module(&root, file);
        let Some(own) = layer(&here) else { continue };
        for path in paths(&fs::read_to_string(file).unwrap(), &here) {
            seen += 1;
            if layer(&path).is_some_and(|other| other > own) {
                upward.push(format!("{} -> {}", here.join("::"), path.join("::")));
            }
        }
    }
    assert!(seen > 200, "the paths were found: {seen}");
    assert_eq!(upward, Vec::<String>::new());
}

/// The modules from which a way leads back to themselves. A module's first two names stand for it: what is inside a
/// story is its own business. What a layer itself defines, in its `mod.rs`, is a module of its own.
fn circles(sources: &[(Vec<String>, String)], given: &BTreeMap<(String, String), String>) -> Vec<String> {
    let short = |module: &[String]| module.iter().take(2).cloned().collect::<Vec<_>>();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|(module, _)| short(module)).collect();
    let mut arrows: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (module, text) in sources {
        let here = short(module);
        // What a layer gives to others is no arrow of its own.
        let own: Vec<_> = match module.len() {
            1 => text.split_inclusive(';').filter(|part| !part.contains("pub use ")).collect(),
            _ => vec![text.as_str()],
        };
        for path in paths(&own.concat(), module) {
            let mut there = short(&path);
            if let [layer, name] = &mut there[..]
                && let Some(module) = given.get(&(layer.clone(), name.clone()))
            {
                name.clone_from(module);
            }
            if !modules.contains(&there) {
                there.truncate(1);
            }
            if !here.is_empty() && there != here && modules.contains(&there) {
                arrows.entry(here.clone()).or_default().insert(there);
            }
        }
    }
    let mut circles = Vec::new();
    for start in arrows.keys() {
        let mut reached = BTreeSet::new();
        let mut next: Vec<_> = arrows.get(start).into_iter().flatten().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(arrows.get(module).into_iter().flatten());
            }
        }
        if reached.contains(start) {
            circles.push(start.join("::"));
        }
    }
    assert!(sources.len() < 10 || arrows.len() > 10, "the arrows were found: {}", arrows.len());
    circles
}

#[test]
fn no_circle_leads_from_a_module_to_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let sources: Vec<_> =
        files.iter().map(|file| (module(&root, file), fs::read_to_string(file).unwrap())).collect();
    assert_eq!(circles(&sources, &given_by(&root)), Vec::<String>::new());
}

#[test]
fn circles_are_found_however_they_are_written() {
    let other = "use crate::model::entry::Entry;";
    for (case, entry, others) in [
        ("alone", "use crate::model::index::Index;", &["model::index"][..]),
        ("in a list", "use crate::model::{policy::Policy, index::Index};", &["model::index"]),
        ("in a list inside a list", "use crate::{model::{index::{self, Index}, policy}};", &["model::index"]),
        ("after a list inside a list", "use crate::{model::{policy::{A, B}, index}};", &["model::index"]),
        ("by super", "use super::{policy, index::Index};", &["model::index"]),
        ("of the layer itself", "use crate::{model::{policy, Index}};", &["model"]),
    ] {
        let mut sources = vec![(vec!["model".to_owned(), "entry".to_owned()], entry.to_owned())];
        sources.extend(
            others.iter().map(|module| (module.split("::").map(str::to_owned).collect(), other.to_owned())),
        );
        let expected: BTreeSet<_> =
            others.iter().copied().chain(["model::entry"]).map(str::to_owned).collect();
        let found: BTreeSet<_> = circles(&sources, &BTreeMap::new()).into_iter().collect();
        assert_eq!(found, expected, "{case}");
    }
    let giving = [
        (vec!["model".to_owned()], "pub mod entry;\npub use entry::Entry;".to_owned()),
        (vec!["model".to_owned(), "entry".to_owned()], "use super::Number;".to_owned()),
    ];
    assert_eq!(circles(&giving, &BTreeMap::new()), Vec::<String>::new(), "a layer gives on what is in it");
}
