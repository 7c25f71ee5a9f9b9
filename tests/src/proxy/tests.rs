use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use super::*;

#[test]
fn requests_of_one_connection_are_counted_one_by_one() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        stream.write_all(b"answer").unwrap();
        all
    });
    let proxy = CountingProxy::start(address).unwrap();
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let sent = "POST /api/work_pools/mine/queues/filter HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET / x\r\n\
                GET /api/flow_runs/0a1b2c3d-0069-730e-aaf2-9a3033c9e73e?a=b HTTP/1.1\r\n\r\n";
    client.write_all(sent.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();

    assert_eq!(server.join().unwrap(), sent);
    assert_eq!(answer, "answer");
    let counts: Vec<(String, u32)> = proxy.take().into_iter().collect();
    assert_eq!(
        counts,
        [
            ("GET /api/flow_runs/*".to_owned(), 1),
            ("POST /api/work_pools/*/queues/filter".to_owned(), 1)
        ]
    );
    assert!(proxy.take().is_empty());
}
