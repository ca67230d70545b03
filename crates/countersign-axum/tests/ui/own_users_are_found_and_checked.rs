//! Users of the program's own come from a type that finds them and checks their passwords.

use std::convert::Infallible;

use countersign_axum::AuthBuilder;
use countersign_core::flow::FindUser;

struct Table;

struct Members;

impl FindUser for Members {
    type User = String;
    type Id = i64;
    type Error = Infallible;

    fn id(_: &String) -> i64 {
        17
    }

    async fn find_by_id(&self, _: i64) -> Result<Option<String>, Infallible> {
        Ok(None)
    }

    async fn find_by_login_name(&self, _: &str) -> Result<Option<String>, Infallible> {
        Ok(None)
    }
}

fn configured(auth: AuthBuilder) -> AuthBuilder {
    auth.own_users(Table)
}

fn nearly(auth: AuthBuilder) -> AuthBuilder {
    auth.own_users(Members)
}

fn main() {}
