//! scrypt in the PHC string format (`$scrypt$ln=16,r=8,p=1$salt$tag`), as passlib and others write it.

use password_hash::phc;

use crate::model::password_hash::function::{Function, StoredHash};
use crate::model::password_hash::{UnusableHash, number};

pub(super) fn read(text: &str) -> Result<StoredHash, UnusableHash> {
    let hash = phc::PasswordHash::new(text).map_err(|_| UnusableHash::Form)?;
    let (Some(salt), Some(tag), None) = (&hash.salt, &hash.hash, hash.version) else {
        return Err(UnusableHash::Form);
    };
    let (mut log_n, mut r, mut p) = (None, None, None);
    for (name, value) in hash.params.iter() {
        let parameter = match name.as_str() {
            "ln" => &mut log_n,
            "r" => &mut r,
            "p" => &mut p,
            _ => return Err(UnusableHash::Form),
        };
        if parameter.replace(number(value.as_str())?).is_some() {
            return Err(UnusableHash::Form);
        }
    }
    let (Some(log_n), Some(r), Some(p)) = (log_n, r, p) else { return Err(UnusableHash::Form) };
    let n = 1_u32.checked_shl(log_n).ok_or(UnusableHash::Cost)?;
    Ok(StoredHash::new(Function::scrypt(n, r, p, salt.as_ref())?, tag.as_ref()))
}
