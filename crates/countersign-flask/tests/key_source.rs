//! Keys as applications configure them.

use countersign_flask::tokens::KeySource;
use countersign_jwt::Algorithm;

#[test]
fn a_pem_text_is_read_with_what_explains_it_before_the_key() {
    let source = KeySource::new(include_bytes!("data/pem/bag-attributes.pem"));
    assert!(source.signing(Algorithm::Rs256).is_ok());
}
