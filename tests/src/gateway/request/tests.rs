use super::{Request, kind};

#[test]
fn requests_are_called_as_the_clusters_rights_call_them() {
    let cases = [
        ("GET /version HTTP/1.1", "GET /version"),
        ("GET /api/v1/pods?watch=true HTTP/1.1", "watch pods"),
        (
            "GET /apis/batch/v1/namespaces/a/jobs?limit=5 HTTP/1.1",
            "list jobs",
        ),
        (
            "POST /apis/batch/v1/namespaces/a/jobs? HTTP/1.1",
            "create jobs",
        ),
        (
            "GET /api/v1/namespaces/a/pods/b/log?follow=true HTTP/1.1",
            "get pods/log",
        ),
        (
            "DELETE /api/v1/namespaces/a/pods/b? HTTP/1.1",
            "delete pods",
        ),
        (
            "GET /api/v1/namespaces/kube-system HTTP/1.1",
            "get namespaces",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(kind(line), expected, "{line}");
    }
}

#[tokio::test]
async fn requests_of_one_connection_are_read_one_by_one() {
    let first = "POST /api/v1/namespaces/a/secrets HTTP/1.1\r\nContent-Length: 3\r\n\r\n{ }";
    let second = "GET /api/v1/pods HTTP/1.1\r\n\r\n";
    let both = format!("{first}{second}");
    let mut stream = both.as_bytes();
    for (expected, kind) in [(first, "create secrets"), (second, "list pods")] {
        let request = Request::read(&mut stream).await.unwrap().unwrap();
        assert_eq!(request.bytes, expected.as_bytes());
        assert_eq!(request.kind, kind);
    }
    assert!(Request::read(&mut stream).await.unwrap().is_none());
}
