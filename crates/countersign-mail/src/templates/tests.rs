use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use countersign_text::{Part, parts};

use super::*;
use crate::SignInCode;

fn letterhead() -> Letterhead {
    Letterhead::new("Ada & Bob", &Links::new("https://auth.example.com").unwrap())
}

fn render(notice: &Notice, language: Language) -> Content {
    MailTemplates::built_in().render(notice, language, &letterhead()).unwrap()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn load(files: &[(&str, &str)]) -> Result<MailTemplates, TemplateError> {
    MailTemplates::load(folder(files).path())
}

#[test]
fn all_languages_have_the_same_texts_with_the_same_placeholders() {
    let catalog = MailTemplates::built_in().catalog;
    let texts = |language| catalog.texts(language).unwrap();
    let placeholders = |language: Language| -> BTreeMap<String, BTreeSet<String>> {
        let names = |text| {
            let names = parts(text).into_iter().filter_map(|part| match part {
                Part::Placeholder(name) => Some(name.to_owned()),
                Part::Fixed(_) => None,
            });
            names.collect()
        };
        texts(language).iter().map(|(key, text)| (key.to_owned(), names(text))).collect()
    };
    let english = placeholders(Language::English);
    assert!(
        english.len() > 40 && english.values().any(|names| names.contains("site")),
        "the texts were found"
    );
    for language in Language::ALL {
        assert_eq!(placeholders(language), english, "{language}");
        for (key, text) in texts(language).iter() {
            assert_eq!(text.trim(), text, "{language} {key}");
            let has_brace = |part| matches!(part, Part::Fixed(fixed) if fixed.contains(['{', '}']));
            assert!(
                !parts(text).into_iter().any(has_brace),
                "{language} {key}: a brace that is no placeholder"
            );
        }
    }
}

#[test]
fn the_texts_of_all_mails_are_these() {
    for language in Language::ALL {
        let mut all = String::new();
        for notice in Notice::samples() {
            let content = render(&notice, language);
            write!(all, "==== {}: {}\n{}\n", notice.kind(), content.subject(), content.text()).unwrap();
        }
        insta::assert_snapshot!(format!("text_{language}"), all);
    }
}

#[test]
fn the_html_of_all_mails_is_this() {
    for language in Language::ALL {
        let mut all = String::new();
        for notice in Notice::samples() {
            let content = render(&notice, language);
            write!(all, "<!-- {} -->\n{}\n", notice.kind(), content.html().unwrap()).unwrap();
        }
        insta::assert_snapshot!(format!("html_{language}"), all);
    }
}

#[test]
fn sec_140_html_has_no_remote_content_and_no_link_but_its_own() {
    for language in Language::ALL {
        for notice in Notice::samples() {
            let html = render(&notice, language).html().unwrap().replace("&#x2f;", "/");
            for forbidden in ["<img", "<script", "<link", "<style", "url(", "src=", "@import", "<form"] {
                assert!(!html.contains(forbidden), "{} has {forbidden}", notice.kind());
            }
            for link in html.split("href=\"").skip(1) {
                let link = link.split('"').next().unwrap();
                assert!(Some(link) == notice.link() || link == "https://auth.example.com", "{link}");
            }
        }
    }
}

#[test]
fn sec_207_values_are_escaped_in_html_and_stay_in_one_line() {
    let device =
        "<script>alert(1)</script>\"'&\r\nSubject: x\u{2028}{site}{{ link }}".to_owned() + &"x".repeat(500);
    let notice = Notice::NewDevice { device: Some(device), address: None, at: Timestamp::MIN };
    for language in Language::ALL {
        let content = render(&notice, language);
        let html = content.html().unwrap();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        let line = content.text().lines().find(|line| line.contains("<script>")).unwrap();
        assert!(line.contains("Subject: x {site}{{ link }}x") && line.chars().count() < 150, "{line}");
        assert!(!content.text().lines().any(|line| line.starts_with("Subject")));
    }
    let evil = Letterhead::new("<b>\r\nBcc: eve@x.com", &Links::new("https://x.example").unwrap());
    let content = MailTemplates::built_in().render(&Notice::AccountExists, Language::English, &evil).unwrap();
    assert!(!content.html().unwrap().contains("<b>"));
    assert_eq!(
        content.subject(),
        "You already have an account at <b> Bcc: eve@x.com",
        "in one line, as plain text"
    );
}

#[test]
fn what_is_not_known_of_a_device_is_said_to_be_unknown() {
    let notice = Notice::NewDevice { device: Some(" \n".to_owned()), address: None, at: Timestamp::MAX };
    let text = render(&notice, Language::German).text().to_owned();
    assert!(text.contains("Gerät: unbekannt\nNetzwerkadresse: unbekannt\nZeit: 9999-12-30"), "{text}");
    let address = Some("2001:db8::1".parse::<IpAddr>().unwrap());
    let notice = Notice::NewDevice { device: None, address, at: Timestamp::MIN };
    assert!(render(&notice, Language::English).text().contains("2001:db8::1\nTime: 1970-01-01 00:00 UTC"));
}

#[test]
fn durations_are_said_in_whole_units() {
    let said = |seconds, language| {
        let expires_in = Duration::from_secs(seconds);
        let text = render(&Notice::Invite { link: "https://x".to_owned(), expires_in }, language);
        let line =
            text.text().lines().find(|line| line.starts_with("Le lien") || line.starts_with("The link"));
        line.unwrap().to_owned()
    };
    for (seconds, expected) in [
        (0, "1 minute"),
        (1, "1 minute"),
        (61, "2 minutes"),
        (600, "10 minutes"),
        (3_600, "1 hour"),
        (5_400, "90 minutes"),
        (7_200, "2 hours"),
        (86_400, "1 day"),
        (90_000, "25 hours"),
        (7 * 86_400, "7 days"),
    ] {
        let line = said(seconds, Language::English);
        assert_eq!(line, format!("The link is valid for {expected} and works once."), "{seconds}");
    }
    assert!(said(3_600, Language::French).contains("1 heure "));
}

#[test]
fn a_site_without_a_name_is_called_by_its_host() {
    let links = Links::new("https://auth.example.com/x").unwrap();
    let letterhead = Letterhead::new(" ", &links);
    let content =
        MailTemplates::built_in().render(&Notice::AccountExists, Language::English, &letterhead).unwrap();
    assert_eq!(content.subject(), "You already have an account at auth.example.com");
    assert!(content.text().contains("https://auth.example.com/x\n"));
}

#[test]
fn files_of_a_folder_replace_the_built_in_ones() {
    let templates = load(&[
        ("invite.txt", "Join {{ site }}: {{ link }}{% include \"_end.txt\" %}"),
        ("_end.txt", "\n{{ text(\"invite.ignore\") }}"),
        ("de.toml", "[invite]\nsubject = \"Komm zu {site}\""),
        ("README.md", "not a template {{"),
        (".hidden.txt", "{{"),
    ])
    .unwrap();
    let [.., invite] = Notice::samples();
    let content = templates.render(&invite, Language::German, &letterhead()).unwrap();
    assert_eq!(content.subject(), "Komm zu Ada & Bob");
    let link = invite.link().unwrap();
    assert!(content.text().starts_with(&format!("Join Ada & Bob: {link}\nFalls Sie")), "{}", content.text());
    assert!(content.html().unwrap().contains("Einladung annehmen"), "the others are as they were");
    assert!(load(&[]).is_ok(), "an empty folder changes nothing");
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    for (name, content, expected) in [
        ("invite.txt", "{{ link }}\n{{ lnk }}", "mail template invite.txt, line 2: undefined value"),
        ("invite.html", "{{ link }}\n\n{% if %}", "mail template invite.html, line 3: syntax error"),
        (
            "layout.txt",
            "{% block body %}{% endblock %}\n{{ sit }}",
            "mail template layout.txt, line 2: undefined value",
        ),
        ("button.html", "\n{{ link }}{{ x }}", "mail template button.html, line 2: undefined value"),
        (
            "invite.txt",
            "{{ text(\"invite.x\") }}",
            "mail template invite.txt, line 1: there is no text invite.x",
        ),
        (
            "invite.txt",
            "no link",
            "mail template invite.txt: the mail does not have its link; write {{ link }}",
        ),
        (
            "invite.html",
            "no link",
            "mail template invite.html: the mail does not have its link; write {{ link }}",
        ),
        (
            "sign_in_code.html",
            "{{ link }}",
            "mail template sign_in_code.html: the mail does not have its code",
        ),
        (
            "invite.txt",
            "{{ link }}{% include \"x.txt\" %}",
            "mail template invite.txt, line 1: template not found",
        ),
        (
            "reset-password.txt",
            "",
            "mail template reset-password.txt: replaces nothing; the names are layout.txt,",
        ),
        ("it.toml", "", "mail template it.toml: replaces nothing; the names are layout.txt,"),
        ("fr.toml", "[invite]\nsubject = \"{site\"\nbody = {", "mail template fr.toml, line 3: "),
        (
            "fr.toml",
            "[invite]\n\nsubjet = \"a\"",
            "mail template fr.toml, line 3: invite.subjet replaces no text",
        ),
        (
            "fr.toml",
            "[invite]\nbody = \"{code}\"",
            "mail template fr.toml, line 2: invite.body has {code}, which this",
        ),
    ] {
        let error = load(&[(name, content)]).err().unwrap_or_else(|| panic!("{name} is wrong: {content:?}"));
        assert!(error.to_string().starts_with(expected), "{error}\nexpected {expected}");
    }
    let error = MailTemplates::load(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(error.starts_with("mail template /nowhere/at/all: cannot be read: "), "{error}");
}

#[test]
fn an_error_holds_nothing_of_the_mail() {
    let source = "{{ link }}{% if link is startingwith(\"https://auth.example.com/inv\") %}ok{% else %}{{ link.x.y }}{% endif %}";
    let templates = load(&[("invite.txt", source)]).unwrap();
    let notice = Notice::Invite { link: "https://s3cret".to_owned(), expires_in: Duration::ZERO };
    let error = templates.render(&notice, Language::English, &letterhead()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[test]
fn a_code_is_in_the_mail_and_not_in_its_subject() {
    let code = SignInCode::new("987654").unwrap();
    let notice =
        Notice::SignInCode { code, link: "https://x/y".to_owned(), expires_in: Duration::from_secs(600) };
    for language in Language::ALL {
        let content = render(&notice, language);
        assert!(content.text().contains("\n987654\n") && content.html().unwrap().contains(">987654<"));
        assert!(!content.subject().contains("987654"), "a locked screen shows subjects");
    }
}
