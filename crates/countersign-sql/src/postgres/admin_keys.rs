//! Admin keys, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::AdminKey;
use countersign_core::store::{AdminKeyStore, StoreError};
use uuid::Uuid;

use super::{PostgresStore, Statement};
use crate::record::AdminKeyRecord;

fn insert(key: &AdminKey) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.admin_key (",
        admin_key_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(AdminKeyRecord::from(key))
}

fn find(id: Uuid) -> Statement<AdminKey> {
    Statement::new(concat!("SELECT ", admin_key_columns!(names), " FROM countersign.admin_key WHERE id = $1"))
        .bind(id)
}

fn find_all() -> Statement<AdminKey> {
    Statement::new(concat!(
        "
    SELECT ",
        admin_key_columns!(names),
        " FROM countersign.admin_key ORDER BY created_at, id"
    ))
}

fn delete(id: Uuid) -> Statement {
    Statement::new("DELETE FROM countersign.admin_key WHERE id = $1").bind(id)
}

#[async_trait]
impl AdminKeyStore for PostgresStore {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        self.lanes.work.insert("insert the admin key", insert(key)).await
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        self.lanes.work.first("read the admin key", find(id)).await
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        self.lanes.work.read("read the admin keys", find_all()).await
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("delete the admin key", delete(id)).await? > 0)
    }
}
