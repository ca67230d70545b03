//! Converting values to fields of documents and back. A value that a field cannot hold exactly, or a field with an
//! invalid value, is an error: nothing is rounded, cut or replaced by a default.

use countersign_core::store::BoxError;
use countersign_jwt::Timestamp;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, RawBsonRef, RawDocument};

use crate::call::Failure;

/// A number, in the form of a signed 64-bit field.
pub(crate) fn integer(number: u64) -> Result<i64, Failure> {
    i64::try_from(number).map_err(|_| Failure::TooLarge)
}

/// Bytes as a field.
pub(crate) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// A time in the server's own type, which TTL indexes require. All other times are numbers, as in every store.
pub(crate) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis())
}

fn get<'a>(document: &'a RawDocument, field: &'static str) -> Result<Option<RawBsonRef<'a>>, Failure> {
    match document.get(field) {
        Ok(None | Some(RawBsonRef::Null)) => Ok(None),
        Ok(value) => Ok(value),
        Err(error) => Err(Failure::malformed(field, error)),
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::malformed(field, "there is none"))
}

/// Whether the field is present and not null.
pub(crate) fn is_set(document: &RawDocument, field: &'static str) -> Result<bool, Failure> {
    Ok(get(document, field)?.is_some())
}

/// Text; `None` if the field is absent or null.
pub(crate) fn optional_text<'a>(
    document: &'a RawDocument,
    field: &'static str,
) -> Result<Option<&'a str>, Failure> {
    match get(document, field)? {
        None => Ok(None),
        Some(RawBsonRef::String(text)) => Ok(Some(text)),
        Some(_) => Err(Failure::malformed(field, "no text")),
    }
}

/// Text.
pub(crate) fn text<'a>(document: &'a RawDocument, field: &'static str) -> Result<&'a str, Failure> {
    required(field, optional_text(document, field)?)
}

/// Text that is parsed; `None` if the field is absent or null.
pub(crate) fn optional_parsed<T, E: Into<BoxError>>(
    document: &RawDocument,
    field: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let text = optional_text(document, field)?;
    text.map(parse).transpose().map_err(|error| Failure::malformed(field, error))
}

/// Text that is parsed.
pub(crate) fn parsed<T, E: Into<BoxError>>(
    document: &RawDocument,
    field: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Failure> {
    required(field, optional_parsed(document, field, parse)?)
}

fn optional_integer(document: &RawDocument, field: &'static str) -> Result<Option<i64>, Failure> {
    match get(document, field)? {
        None => Ok(None),
        Some(RawBsonRef::Int64(number)) => Ok(Some(number)),
        // An export and import by somebody may have turned the number into a smaller type.
        Some(RawBsonRef::Int32(number)) => Ok(Some(number.into())),
        Some(_) => Err(Failure::malformed(field, "no integer")),
    }
}

/// A number.
pub(crate) fn number<T>(document: &RawDocument, field: &'static str) -> Result<T, Failure>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    let number = required(field, optional_integer(document, field)?)?;
    T::try_from(number).map_err(|error| Failure::malformed(field, error))
}

/// A time; `None` if the field is absent or null.
pub(crate) fn optional_time(
    document: &RawDocument,
    field: &'static str,
) -> Result<Option<Timestamp>, Failure> {
    let Some(millis) = optional_integer(document, field)? else { return Ok(None) };
    let time = Timestamp::from_millis(millis);
    if time.as_millis() == millis {
        Ok(Some(time))
    } else {
        Err(Failure::malformed(field, "a time out of range"))
    }
}

/// A time.
pub(crate) fn time(document: &RawDocument, field: &'static str) -> Result<Timestamp, Failure> {
    required(field, optional_time(document, field)?)
}

/// A time in the server's own type; `None` if the field is absent or null.
pub(crate) fn optional_date(
    document: &RawDocument,
    field: &'static str,
) -> Result<Option<Timestamp>, Failure> {
    match get(document, field)? {
        None => Ok(None),
        Some(RawBsonRef::DateTime(date)) => Ok(Some(Timestamp::from_millis(date.timestamp_millis()))),
        Some(_) => Err(Failure::malformed(field, "no date")),
    }
}

/// Bytes.
pub(crate) fn bytes<'a>(document: &'a RawDocument, field: &'static str) -> Result<&'a [u8], Failure> {
    match required(field, get(document, field)?)? {
        RawBsonRef::Binary(binary) => Ok(binary.bytes),
        _ => Err(Failure::malformed(field, "no bytes")),
    }
}

/// The documents in an array; none if the field is absent.
pub(crate) fn documents<'a>(
    document: &'a RawDocument,
    field: &'static str,
) -> Result<Vec<&'a RawDocument>, Failure> {
    let array = match get(document, field)? {
        None => return Ok(Vec::new()),
        Some(RawBsonRef::Array(array)) => array,
        Some(_) => return Err(Failure::malformed(field, "no array")),
    };
    let mut documents = Vec::new();
    for element in array {
        match element.map_err(|error| Failure::malformed(field, error))? {
            RawBsonRef::Document(document) => documents.push(document),
            _ => return Err(Failure::malformed(field, "no document")),
        }
    }
    Ok(documents)
}

/// The texts in an array; none if the field is absent.
pub(crate) fn texts(document: &RawDocument, field: &'static str) -> Result<Vec<String>, Failure> {
    let array = match get(document, field)? {
        None => return Ok(Vec::new()),
        Some(RawBsonRef::Array(array)) => array,
        Some(_) => return Err(Failure::malformed(field, "no array")),
    };
    let mut texts = Vec::new();
    for element in array {
        match element.map_err(|error| Failure::malformed(field, error))? {
            RawBsonRef::String(text) => texts.push(text.to_owned()),
            _ => return Err(Failure::malformed(field, "no text")),
        }
    }
    Ok(texts)
}

/// The byte strings in an array; none if the field is absent.
pub(crate) fn byte_strings<'a>(
    document: &'a RawDocument,
    field: &'static str,
) -> Result<Vec<&'a [u8]>, Failure> {
    let array = match get(document, field)? {
        None => return Ok(Vec::new()),
        Some(RawBsonRef::Array(array)) => array,
        Some(_) => return Err(Failure::malformed(field, "no array")),
    };
    let mut found = Vec::new();
    for element in array {
        match element.map_err(|error| Failure::malformed(field, error))? {
            RawBsonRef::Binary(binary) => found.push(binary.bytes),
            _ => return Err(Failure::malformed(field, "no bytes")),
        }
    }
    Ok(found)
}
