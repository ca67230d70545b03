//! Password hashes of other libraries: werkzeug, Flask-Bcrypt, Django, passlib, argon2-cffi.
//!
//! `hashes.json` has hashes that these libraries made, so the first tests need none of them. The others run the libraries
//! themselves, by `libraries.py`: in the Python that the environment variable `TEST_PASSWORDS_PYTHON` names, else in
//! `python3`. Without the libraries these tests say that they were left out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy takes only functions with #[test] for tests"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use countersign_core::flow::{HashRecipe, Hasher, PasswordCheck};
use countersign_core::model::{Argon2Params, Password, PasswordHash, Peppers, UnusableHash};
use countersign_testkit::SeededRandom;
use serde_json::{Value, json};

const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/imported_hashes/libraries.py");
const PEPPER: &str = "2026:q2Wc9Rt4Yb7Nm1Kp6Lz8Xv3Js5Hd0GfAeUoIiQyTrEw=";

fn hasher() -> Hasher {
    with(Argon2Params::default().into())
}

fn with(recipe: HashRecipe) -> Hasher {
    Hasher::new(recipe, Arc::new(SeededRandom::default())).unwrap()
}

fn password(text: &str) -> Password {
    Password::new_for_login(text.to_owned()).unwrap()
}

fn stored(text: &str) -> PasswordHash {
    PasswordHash::from_stored(text.to_owned())
}

/// One hash that a library made of a password.
struct Made {
    form: String,
    password: String,
    hash: PasswordHash,
}

impl Made {
    /// The hashes in what `libraries.py make` writes.
    fn all(json: &str) -> Vec<Self> {
        let all: Vec<Value> = serde_json::from_str(json).unwrap();
        let text = |made: &Value, member| made[member].as_str().map(str::to_owned);
        let made = all.iter().filter_map(|made| {
            let (form, hash) = (text(made, "form")?, text(made, "hash")?);
            let hash = match form.contains("long passwords") {
                true => PasswordHash::of_flask_bcrypt_long(&hash),
                false => stored(&hash),
            };
            Some(Self { form, password: text(made, "password")?, hash })
        });
        made.collect()
    }

    /// How many bytes of a password the hash depends on.
    fn significant_bytes(&self) -> usize {
        let is_bcrypt_alone = ["$2", "bcrypt$"].iter().any(|prefix| self.hash.expose().starts_with(prefix));
        if is_bcrypt_alone { 72 } else { usize::MAX }
    }

    /// Passwords that are nearly this one.
    fn near_misses(&self) -> Vec<String> {
        let password = &self.password;
        let mut misses = vec![
            format!("{password}x"),
            format!("{password} "),
            format!(" {password}"),
            password.trim().to_owned(),
            password.to_uppercase(),
            password.replace("cafe\u{301}", "caf\u{e9}"),
            password.split('\0').next().unwrap_or_default().to_owned(),
            password.replace('\0', ""),
            password.chars().rev().collect(),
        ];
        let mut shorter = password.clone();
        shorter.pop();
        misses.push(shorter);
        let significant =
            |text: &str| text.as_bytes().iter().copied().take(self.significant_bytes()).collect::<Vec<_>>();
        misses.retain(|miss| significant(miss) != significant(password));
        misses
    }
}

fn verify(made: &[Made]) {
    let hasher = hasher();
    for made in made {
        let Made { form, password: text, hash } = made;
        assert_eq!(hash.check(&Peppers::default()), Ok(()), "{form}: {}", hash.expose());
        assert!(hasher.verify(&password(text), Some(hash)).unwrap(), "{form}, {text:?}: {}", hash.expose());
        assert!(hasher.needs_rehash(hash), "{form}");
        for miss in made.near_misses() {
            let is_right = hasher.verify(&password(&miss), Some(hash)).unwrap();
            assert!(!is_right, "{form}, {text:?}, {miss:?}: {}", hash.expose());
        }
    }
}

#[test]
fn sec_118_hashes_of_other_libraries_verify_and_near_misses_do_not() {
    let made = Made::all(include_str!("hashes.json"));
    let mut forms: Vec<_> = made.iter().map(|made| made.form.as_str()).collect();
    forms.dedup();
    assert_eq!(forms.len(), 28, "{forms:?}");
    assert!(made.len() > 300, "{}", made.len());
    verify(&made);
}

#[test]
fn sec_118_the_vectors_of_the_requirements_verify() {
    let password = password("correct horse battery staple");
    for text in [
        "scrypt:32768:8:1$S4ltS4ltS4ltS4lt$abb1872789a09f5304d8d8f56f0d4a4a867e046915d35be84a3cccab037d4606f48a6e0b7da8cbbcd60b099dd274530a67dcbba8c7d5874290f1da27876b6826",
        "pbkdf2:sha256:600000$S4ltS4ltS4ltS4lt$0d41787abe13e119e932d57d05c049fc061ac74b7fe9dcb1d47148973642bac3",
        "pbkdf2_sha256$600000$S4ltS4ltS4ltS4lt$DUF4er4T4RnpMtV9BcBJ/AYax0t/6dyx1HFIlzZCusM=",
        "$2b$10$abcdefghijklmnopqrstuuGGgFFcYeueaAql8Z7U7CnCTRw4DR77W",
    ] {
        assert!(hasher().verify(&password, Some(&stored(text))).unwrap(), "{text}");
    }
}

#[test]
fn sec_118_of_bcrypt_only_the_flawed_variant_is_refused() {
    let made = Made::all(include_str!("hashes.json"));
    let made = made.iter().find(|made| made.form == "Flask-Bcrypt 2b").unwrap();
    for (variant, expected) in
        [("$2a$", true), ("$2b$", true), ("$2y$", true), ("$2x$", false), ("$2$", false)]
    {
        let hash = stored(&made.hash.expose().replace("$2b$", variant));
        assert_eq!(hasher().verify(&password(&made.password), Some(&hash)).unwrap(), expected, "{variant}");
    }
}

#[test]
fn sec_118_a_long_password_of_flask_bcrypt_is_only_right_where_it_is_named_one() {
    let made = Made::all(include_str!("hashes.json"));
    let made = made.iter().find(|made| made.form == "Flask-Bcrypt, long passwords").unwrap();
    let alone = stored(made.hash.expose().strip_prefix("bcrypt-sha256-hex").unwrap());
    assert!(hasher().verify(&password(&made.password), Some(&made.hash)).unwrap());
    assert!(!hasher().verify(&password(&made.password), Some(&alone)).unwrap());
}

#[test]
fn sec_117_a_right_password_yields_a_hash_like_a_new_one() {
    let hasher = hasher();
    for made in Made::all(include_str!("hashes.json")).iter().filter(|made| made.password == "nul\0inside") {
        let started = hasher.hashes_started();
        let checked = hasher.check(&password(&made.password), Some(&made.hash)).unwrap();
        let PasswordCheck::Right { upgrade: Some(upgrade) } = checked else { panic!("{checked:?}") };
        assert_eq!(hasher.hashes_started(), started + 2, "{}", made.form);
        assert!(!hasher.needs_rehash(&upgrade), "{}", made.form);
        let again = hasher.check(&password(&made.password), Some(&upgrade)).unwrap();
        assert!(matches!(again, PasswordCheck::Right { upgrade: None }), "{again:?}");
        assert_eq!(hasher.hashes_started(), started + 3, "once");
        let wrong = hasher.check(&password("wrong"), Some(&made.hash)).unwrap();
        assert!(matches!(wrong, PasswordCheck::Wrong), "{wrong:?}");
    }
}

#[test]
fn sec_120_new_hashes_are_never_bcrypt_and_cut_nothing() {
    let hasher = hasher();
    for (set, tried) in [("x".repeat(72), "x".repeat(73)), ("a\0b".to_owned(), "a\0c".to_owned())] {
        let hash = hasher.hash(&password(&set)).unwrap();
        assert!(hash.expose().starts_with("$argon2id$"), "{}", hash.expose());
        assert!(hasher.verify(&password(&set), Some(&hash)).unwrap());
        assert!(!hasher.verify(&password(&tried), Some(&hash)).unwrap());
    }
}

#[test]
fn sec_122_a_peppered_hash_needs_its_pepper() {
    let recipe =
        |peppers: &str| HashRecipe { peppers: Peppers::parse(peppers).unwrap(), ..HashRecipe::default() };
    let old = "2025:1PfHtT3yVwzLk6dQ8mJr5sBn0cXe2aGhUiOp7YqRZKM=";
    let right = password("correct horse battery staple");
    let hash = with(recipe(old)).hash(&right).unwrap();
    assert!(
        hash.expose().starts_with("hmac-sha256:2025$argon2id$v=19$m=19456,t=2,p=1$"),
        "{}",
        hash.expose()
    );
    let bare = stored(hash.expose().strip_prefix("hmac-sha256:2025").unwrap());
    let renamed = stored(&hash.expose().replace("2025", "2026"));

    let both = format!("{PEPPER},{old}");
    let leaving = format!("none,{old}");
    for (case, recipe, hash, expected) in [
        ("its own", recipe(old), &hash, Some(false)),
        ("after a rotation", recipe(&both), &hash, Some(true)),
        ("on the way out", recipe(&leaving), &hash, Some(true)),
        ("the database alone", HashRecipe::default(), &bare, None),
        ("under the id of another", recipe(&both), &renamed, None),
        ("without its prefix", recipe(old), &bare, None),
    ] {
        let hasher = with(recipe);
        let checked = hasher.check(&right, Some(hash)).unwrap();
        match expected {
            Some(is_upgraded) => {
                let PasswordCheck::Right { upgrade } = checked else { panic!("{case}: {checked:?}") };
                assert_eq!(upgrade.is_some(), is_upgraded, "{case}");
                if let Some(upgrade) = upgrade {
                    let again = hasher.check(&right, Some(&upgrade)).unwrap();
                    assert!(matches!(again, PasswordCheck::Right { upgrade: None }), "{case}: {again:?}");
                }
            }
            None => assert!(matches!(checked, PasswordCheck::Wrong), "{case}: {checked:?}"),
        }
        let wrong = hasher.check(&password("wrong"), Some(hash)).unwrap();
        assert!(matches!(wrong, PasswordCheck::Wrong), "{case}: {wrong:?}");
    }
    for recipe in [HashRecipe::default(), recipe(PEPPER)] {
        let checked = with(recipe).check(&right, Some(&hash)).unwrap();
        let PasswordCheck::Unusable(reason @ UnusableHash::NoPepper(_)) = checked else {
            panic!("{checked:?}")
        };
        assert_eq!(reason.to_string(), "it needs the pepper 2025, which is not set");
    }
}

#[test]
fn sec_122_a_pepper_is_added_to_old_hashes_at_login() {
    let right = password("correct horse battery staple");
    let plain = hasher().hash(&right).unwrap();
    let peppered = with(HashRecipe { peppers: Peppers::parse(PEPPER).unwrap(), ..HashRecipe::default() });
    let checked = peppered.check(&right, Some(&plain)).unwrap();
    let PasswordCheck::Right { upgrade: Some(upgrade) } = checked else { panic!("{checked:?}") };
    assert!(upgrade.expose().starts_with("hmac-sha256:2026$argon2id$"), "{}", upgrade.expose());
}

/// A Python that has the libraries. One that `TEST_PASSWORDS_PYTHON` names must.
fn python() -> Option<Command> {
    const MODULES: &str = "argon2, bcrypt, django, flask_bcrypt, passlib, werkzeug";
    let named = std::env::var("TEST_PASSWORDS_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let tried = Command::new(&python).args(["-c", &format!("import {MODULES}")]).output();
    if tried.is_ok_and(|output| output.status.success()) {
        let mut command = Command::new(python);
        command.arg(LIBRARIES);
        return Some(command);
    }
    assert!(named.is_none(), "TEST_PASSWORDS_PYTHON names {python}, which cannot import {MODULES}");
    eprintln!("LEFT OUT: hashes of other libraries: {python} cannot import {MODULES}");
    None
}

fn said(mut python: Command, input: &Value) -> String {
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sec_118_hashes_that_other_libraries_make_now_verify() {
    let Some(mut python) = python() else { return };
    python.arg("make");
    let made = Made::all(&said(python, &Value::Null));
    assert!(made.len() > 300, "{}", made.len());
    verify(&made);
}

#[test]
fn sec_118_other_libraries_verify_our_hashes() {
    let Some(mut python) = python() else { return };
    let hasher = hasher();
    let mut given = Vec::new();
    for text in
        ["correct horse battery staple", "nul\0inside", "trailing ", "日本語 😀", &"x".repeat(300), ""]
    {
        let hash = hasher.hash(&password(text)).unwrap();
        given.push(json!({ "password": text, "hash": hash.expose() }));
        given.push(json!({ "password": format!("{text}x"), "hash": hash.expose() }));
    }
    python.arg("verify");
    let verdicts: Vec<Value> = serde_json::from_str(&said(python, &given.clone().into())).unwrap();
    assert_eq!(verdicts.len(), given.len());
    for (index, (given, verdict)) in given.iter().zip(verdicts).enumerate() {
        let right = index % 2 == 0;
        assert_eq!(verdict, json!({ "argon2-cffi": right, "passlib": right, "Django": right }), "{given}");
    }
}
