use http::{HeaderMap, StatusCode};

use super::{Fault, Kind, MAX_REASON};

fn judge(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let status = StatusCode::from_u16(status).expect("a status");
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (
                (*name).parse().expect("a name"),
                value.parse().expect("a value"),
            )
        })
        .collect();
    Fault::of_answer(status, &headers, body.as_bytes())
}

#[test]
fn what_may_pass_is_told_from_what_stays() {
    for (status, code, kind) in [
        (404, "NoSuchBucket", Kind::NotFound),
        (401, "", Kind::Denied),
        (403, "AccessDenied", Kind::Denied),
        (400, "ExpiredToken", Kind::Denied),
        (400, "InvalidAccessKeyId", Kind::Denied),
        (400, "RequestTimeout", Kind::Transient),
        (400, "InvalidBucketName", Kind::Permanent),
        (408, "", Kind::Transient),
        (429, "", Kind::Transient),
        (500, "InternalError", Kind::Transient),
        (501, "NotImplemented", Kind::Permanent),
        (503, "SlowDown", Kind::Transient),
        (302, "", Kind::Permanent),
    ] {
        let fault = judge(status, &[], &format!("<Error><Code>{code}</Code></Error>"));
        assert_eq!(fault.kind, kind, "{status} {code}");
    }
}

#[test]
fn a_region_is_believed_where_the_answer_is_about_it() {
    let region = [("x-amz-bucket-region", "eu-west-3")];
    let elsewhere = Kind::Elsewhere("eu-west-3".to_owned());
    assert_eq!(judge(301, &region, "").kind, elsewhere);
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code></Error>";
    assert_eq!(judge(400, &region, malformed).kind, elsewhere);
    assert_eq!(
        judge(403, &region, "<Error><Code>AccessDenied</Code></Error>").kind,
        Kind::Denied
    );
    assert_eq!(judge(404, &region, "").kind, Kind::NotFound);
}

#[test]
fn a_reason_is_one_short_line_with_what_the_server_said() {
    let said = "<Error><Code>NoSuchKey</Code><Message>It is\ngone</Message><StringToSign>s</StringToSign></Error>";
    assert_eq!(
        judge(404, &[], said).reason,
        "the server answered 404 NoSuchKey: It is"
    );
    let azure = judge(403, &[("x-ms-error-code", "AuthenticationFailed")], "");
    assert_eq!(azure.reason, "the server answered 403 AuthenticationFailed");
    assert_eq!(
        judge(500, &[], "<html>").reason,
        "the server answered 500 Internal Server Error"
    );
    let long = format!(
        "<Error><Code>A</Code><Message>{}</Message></Error>",
        "é".repeat(999)
    );
    assert_eq!(
        judge(500, &[], &long).reason.chars().count(),
        MAX_REASON + 1
    );
}
