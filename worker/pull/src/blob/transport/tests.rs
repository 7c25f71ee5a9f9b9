use http::HeaderMap;

use super::promised_md5;

/// The MD5 of `hello`.
const DIGITS: &str = "\"5d41402abc4b2a76b9719d911017c592\"";
const ENCODED: &str = "XUFAKrxLKna5cZ2REBfFkg==";

fn promised(headers: &[(&'static str, &str)]) -> bool {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (
                (*name).parse().expect("a name"),
                value.parse().expect("a value"),
            )
        })
        .collect();
    let md5 = promised_md5(&headers);
    assert!(
        md5.is_none_or(|md5| md5[0] == 0x5d && md5[15] == 0x92),
        "{md5:?}"
    );
    md5.is_some()
}

#[test]
fn a_checksum_is_believed_where_the_store_says_it_is_one() {
    let s3 = ("x-amz-request-id", "1");
    assert!(promised(&[("content-md5", ENCODED)]));
    assert!(promised(&[(
        "x-goog-hash",
        &format!("crc32c=AAAAAA==, md5={ENCODED}")
    )]));
    assert!(promised(&[s3, ("etag", DIGITS)]));
    assert!(promised(&[
        s3,
        ("etag", DIGITS),
        ("x-amz-server-side-encryption", "AES256")
    ]));
}

#[test]
fn an_etag_that_is_no_checksum_is_not_taken_for_one() {
    let s3 = ("x-amz-request-id", "1");
    assert!(!promised(&[("etag", DIGITS)]));
    assert!(!promised(&[
        s3,
        ("etag", "\"5d41402abc4b2a76b9719d911017c592-2\"")
    ]));
    assert!(!promised(&[
        s3,
        ("etag", "\"zz41402abc4b2a76b9719d911017c592\"")
    ]));
    assert!(!promised(&[
        s3,
        ("etag", DIGITS),
        ("x-amz-server-side-encryption", "aws:kms")
    ]));
    let own_key = ("x-amz-server-side-encryption-customer-algorithm", "AES256");
    assert!(!promised(&[s3, ("etag", DIGITS), own_key]));
    assert!(!promised(&[
        ("content-md5", ENCODED),
        ("content-encoding", "gzip")
    ]));
    assert!(!promised(&[]));
}
