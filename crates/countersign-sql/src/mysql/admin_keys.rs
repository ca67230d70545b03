//! Admin keys, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::AdminKey;
use countersign_core::store::{AdminKeyStore, StoreError};
use uuid::Uuid;

use super::{MySqlStore, Statement};
use crate::record::AdminKeyRecord;

fn insert(key: &AdminKey) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_admin_key (",
        admin_key_columns!(names),
        ")
    VALUES (",
        admin_key_columns!(marks),
        ")"
    ))
    .bind_record(AdminKeyRecord::from(key))
}

pub(super) fn find(id: Uuid) -> Statement<AdminKey> {
    Statement::new(concat!(
        "SELECT ",
        admin_key_columns!(converted),
        " FROM countersign_admin_key AS admin_key WHERE admin_key.id = ?"
    ))
    .bind(id)
}

fn find_all() -> Statement<AdminKey> {
    Statement::new(concat!(
        "
    SELECT ",
        admin_key_columns!(converted),
        " FROM countersign_admin_key AS admin_key ORDER BY admin_key.created_at, admin_key.id"
    ))
}

pub(super) fn delete(id: Uuid) -> Statement {
    Statement::new("DELETE FROM countersign_admin_key WHERE id = ?").bind(id)
}

#[async_trait]
impl AdminKeyStore for MySqlStore {
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
