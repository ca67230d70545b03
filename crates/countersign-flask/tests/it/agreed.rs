//! Programs that share a store agree on whose rules hold.

use std::time::Duration;

use countersign_axum::AuthBuilder;
use countersign_core::model::SessionPolicy;
use countersign_flask::{FlaskJwt, FlaskJwtConfig};
use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn a_program_with_other_rules_is_not_built() {
    let app = TestApp::new().await;
    let secret = "0123456789abcdef0123456789abcdef";
    let options = json!({ "JWT_SECRET_KEY": secret });
    let config = FlaskJwtConfig::from_options(options.as_object().unwrap().clone()).unwrap();
    // What is about rotation has no effect there, and is not compared.
    let policy = SessionPolicy { grace: Duration::ZERO, healing: false, ..SessionPolicy::default() };
    let rules = |builder: AuthBuilder| builder.policy(policy).rules(FlaskJwt::builder(config));
    let refused = app.beside(rules).await.unwrap_err().to_string();
    assert!(refused.contains("profile is flask-jwt here and native in the store"), "{refused}");
    let record = app.store.stores().keys().settings().await.unwrap().unwrap();
    assert!(!record.contains(secret));
}
