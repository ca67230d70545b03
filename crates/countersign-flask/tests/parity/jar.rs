//! Cookies as a browser keeps them, by the injected clock.

use http::HeaderValue;

use crate::compare::http_date;
use crate::recording::Attribute;

/// A parsed `Set-Cookie` line, with its attributes as they were written.
#[derive(Clone, Debug)]
pub(crate) struct SetCookie {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) attributes: Vec<(String, Attribute)>,
}

/// Cookies by name and path. `Domain` and `Secure` do not count: everything here is one plain-http host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar(Vec<Kept>);

#[derive(Clone, Debug)]
struct Kept {
    name: String,
    path: String,
    value: String,
    ends: Option<f64>,
}

impl SetCookie {
    pub(crate) fn parse(line: &HeaderValue) -> Result<Self, String> {
        let text = line.to_str().map_err(|_| format!("{line:?} is not ASCII"))?;
        let mut parts = text.split(';').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (name, value) = first.split_once('=').ok_or_else(|| format!("{text:?} has no value"))?;
        let attributes = parts.map(|part| match part.split_once('=') {
            Some((name, value)) => (name.to_owned(), Attribute::Text(value.to_owned())),
            None => (part.to_owned(), Attribute::Bare(true)),
        });
        Ok(Self { name: name.to_owned(), value: value.to_owned(), attributes: attributes.collect() })
    }

    /// `Expires` in Unix seconds.
    pub(crate) fn expires(&self) -> Result<Option<i64>, String> {
        self.attribute("expires").map(http_date).transpose()
    }

    /// `Max-Age` in seconds.
    pub(crate) fn max_age(&self) -> Result<Option<i64>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{text:?} is no Max-Age"));
        self.attribute("max-age").map(parse).transpose()
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find_map(|(own, value)| match value {
            Attribute::Text(text) if own.eq_ignore_ascii_case(name) => Some(text.as_str()),
            _ => None,
        })
    }
}

impl Jar {
    #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
    pub(crate) fn store(&mut self, cookie: &SetCookie, now: f64) -> Result<(), String> {
        let path = cookie.attribute("path").unwrap_or("/").to_owned();
        let ends = match (cookie.max_age()?, cookie.expires()?) {
            (Some(max_age), _) => Some(now + max_age as f64),
            (None, expires) => expires.map(|at| at as f64),
        };
        if ends.is_some_and(|ends| ends <= now) {
            self.0.retain(|kept| (&kept.name, &kept.path) != (&cookie.name, &path));
            return Ok(());
        }
        let value = cookie.value.clone();
        match self.0.iter_mut().find(|kept| (&kept.name, &kept.path) == (&cookie.name, &path)) {
            Some(kept) => (kept.value, kept.ends) = (value, ends),
            None => self.0.push(Kept { name: cookie.name.clone(), path, value, ends }),
        }
        Ok(())
    }

    /// Names and values of what covers the path, longer paths first.
    pub(crate) fn matching(&self, path: &str, now: f64) -> Vec<(String, String)> {
        let live = |kept: &&Kept| kept.ends.is_none_or(|ends| now < ends) && covers(&kept.path, path);
        let mut sent: Vec<_> = self.0.iter().filter(live).collect();
        sent.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        sent.into_iter().map(|kept| (kept.name.clone(), kept.value.clone())).collect()
    }

    /// When a cookie with one of these names ends; `None` if there is none.
    pub(crate) fn end_of(&self, names: &[String], now: f64) -> Option<Option<f64>> {
        let live = |kept: &&Kept| names.contains(&kept.name) && kept.ends.is_none_or(|ends| now < ends);
        self.0.iter().find(live).map(|kept| kept.ends)
    }

    pub(crate) fn drop(&mut self, name: &str) {
        self.0.retain(|kept| kept.name != name);
    }

    /// Replaces the character in the middle of the value by `0`, or by `1` if it was `0`.
    pub(crate) fn tamper(&mut self, name: &str) {
        for kept in self.0.iter_mut().filter(|kept| kept.name == name) {
            let mut value: Vec<char> = kept.value.chars().collect();
            let middle = value.len() / 2;
            if let Some(c) = value.get_mut(middle) {
                *c = if *c == '0' { '1' } else { '0' };
            }
            kept.value = value.into_iter().collect();
        }
    }
}

fn covers(scope: &str, path: &str) -> bool {
    let below = path.strip_prefix(scope);
    below.is_some_and(|below| below.is_empty() || scope.ends_with('/') || below.starts_with('/'))
}
