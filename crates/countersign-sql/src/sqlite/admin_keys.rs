//! Admin keys, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::AdminKey;
use countersign_core::store::{AdminKeyStore, StoreError};
use uuid::Uuid;

use super::{SqliteStore, Statement};
use crate::record::AdminKeyRecord;

fn insert(key: &AdminKey) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO admin_key (",
        admin_key_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(AdminKeyRecord::from(key))
}

fn find(id: Uuid) -> Statement<AdminKey> {
    Statement::new(concat!("SELECT ", admin_key_columns!(names), " FROM admin_key WHERE id = ?1")).bind(id)
}

fn find_all() -> Statement<AdminKey> {
    Statement::new(concat!(
        "
    SELECT ",
        admin_key_columns!(names),
        " FROM admin_key ORDER BY created_at, id"
    ))
}

fn delete(id: Uuid) -> Statement {
    Statement::new("DELETE FROM admin_key WHERE id = ?1").bind(id)
}

#[async_trait]
impl AdminKeyStore for SqliteStore {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        Ok(self.write("insert the admin key", insert(key)).await? > 0)
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        self.first("read the admin key", &self.readers, find(id)).await
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        self.read("read the admin keys", &self.readers, find_all()).await
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(self.write("delete the admin key", delete(id)).await? > 0)
    }
}
