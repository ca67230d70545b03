//! The fields of a form and what is wrong with them, so that a page can show both again.

use std::collections::BTreeMap;

use axum::response::Response;
use countersign_core::model::{EmailAddress, Password, PasswordError, Username, WeakPassword};
use http::StatusCode;
use minijinja::{Value, context};

use crate::form::Form;
use crate::problem;
use crate::visit::Visit;

/// What is wrong with a form, field by field.
#[derive(Debug, Default)]
pub(crate) struct Wrong(BTreeMap<&'static str, String>);

impl Wrong {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what is wrong with a field. What was noted first stays.
    pub(crate) fn note(&mut self, visit: &Visit, field: &'static str, key: &str) {
        self.0.entry(field).or_insert_with(|| visit.text(key, &[]));
    }

    /// Notes why a new password was refused.
    pub(crate) fn weak(&mut self, visit: &Visit, field: &'static str, error: &WeakPassword) {
        let minimum = minimum(visit).to_string();
        let text = visit.text(problem::of_password(error), &[("minimum", &minimum)]);
        self.0.entry(field).or_insert(text);
    }

    /// The e-mail address of a field. It is an error if there is none and one is needed.
    pub(crate) fn email(&mut self, visit: &Visit, form: &Form, needed: bool) -> Option<EmailAddress> {
        let Some(text) = form.given("email") else {
            if needed {
                self.note(visit, "email", "problem.required");
            }
            return None;
        };
        match EmailAddress::parse(text) {
            Ok(email) => Some(email),
            Err(error) => {
                self.note(visit, "email", problem::of_name(error, true));
                None
            }
        }
    }

    /// The username of a field. It is an error if there is none and one is needed.
    pub(crate) fn username(&mut self, visit: &Visit, form: &Form, needed: bool) -> Option<Username> {
        let Some(text) = form.given("username") else {
            if needed {
                self.note(visit, "username", "problem.required");
            }
            return None;
        };
        match Username::parse(text) {
            Ok(username) => Some(username),
            Err(error) => {
                self.note(visit, "username", problem::of_name(error, false));
                None
            }
        }
    }

    /// A password that is to be checked, exactly as it was sent.
    pub(crate) fn password(&mut self, visit: &Visit, form: &Form, field: &'static str) -> Option<Password> {
        let Some(text) = form.exactly(field) else {
            self.note(visit, field, "problem.required");
            return None;
        };
        match Password::new_for_login(text) {
            Ok(password) => Some(password),
            Err(PasswordError::TooLong) => {
                self.note(visit, field, "problem.password_long");
                None
            }
            // A password that is too short for a new one may still be somebody's.
            Err(_) => {
                self.note(visit, field, "problem.password_wrong");
                None
            }
        }
    }

    pub(crate) fn shown(&self) -> Value {
        Value::from_pairs(self.0.iter().map(|(field, text)| (*field, text.as_str())))
    }
}

/// The fewest characters of a new password.
pub(crate) fn minimum(visit: &Visit) -> u16 {
    visit.auth().accounts().passwords().rules.minimum().get()
}

/// Shows a form again, with what is wrong with it.
pub(crate) fn again(
    visit: &Visit,
    status: StatusCode,
    template: &str,
    alert: &str,
    wrong: &Wrong,
    own: Value,
) -> Response {
    let shown = context! { alert, errors => wrong.shown() };
    visit.page(status, template, context! { ..own, ..shown })
}

/// Shows a form again that did not come from a page of ours in this browser, or is too old. What was typed stays, apart
/// from passwords.
pub(crate) fn stale(visit: &Visit, template: &str, own: Value) -> Response {
    let alert = visit.text("problem.stale", &[]);
    again(visit, StatusCode::FORBIDDEN, template, &alert, &Wrong::default(), own)
}
